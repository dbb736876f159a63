"""Outputs of the released program on random inputs and weights; see README.md beside this file."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

FOLDER = Path(__file__).parent
CXC = FOLDER / "cxc_annots"  # Crisscrossed Captions in the released form
RECALLS = [  # order of the metrics in a golden file
    f"{direction}_{metric}" for direction in ("i2t", "t2i") for metric in ("r1", "r5", "r10", "medr", "meanr")
]


def load(name: str) -> dict[str, Tensor]:
    """Every array of a golden file as a tensor; arrays of text stay out."""
    with np.load(FOLDER / f"{name}.npz", allow_pickle=False) as arrays:
        return {key: torch.from_numpy(arrays[key]) for key in arrays if arrays[key].dtype.kind in "fiub"}


def under(arrays: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The arrays whose names begin with a prefix, without it."""
    return {name.removeprefix(prefix): value for name, value in arrays.items() if name.startswith(prefix)}


def assert_close(found: Tensor, expected: Tensor, tolerance: float = 1e-5) -> None:
    """Equal to a tolerance relative to the largest expected value."""
    scale = expected.abs().max().item()
    assert found.shape == expected.shape
    worst = (found - expected).abs().max().item()
    assert worst <= tolerance * max(scale, 1e-3), f"differs by {worst:.2e} at scale {scale:.2e}"
