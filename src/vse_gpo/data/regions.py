"""Precomputed region features, memory-mapped: opening them costs neither memory nor time."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from vse_gpo.batch import Features, pad_sets
from vse_gpo.errors import VSEError


class RegionFiles:
    """``precomp/{split}_ims.npy``: (images, regions, width) float32 or float16, or one row per caption.

    Args:
        root, split, ids: see ``OpenImages``.
        width: that the features must have.
    """

    def __init__(self, root: Path, split: str, ids: Sequence[str], *, width: int) -> None:
        self.path = root / "precomp" / f"{split}_ims.npy"
        self.ids = ids
        self.features = _open(self.path)
        rows, self.width = self.features.shape[0], width
        if self.features.shape[2] != width:
            raise VSEError(
                f"{self.path}: features are {self.features.shape[2]} wide, the backbone expects {width}; "
                f"set backbone.width={self.features.shape[2]} or use the features of this backbone"
            )
        self.repeat, rest = divmod(rows, len(ids))
        if self.repeat == 0 or rest:
            raise VSEError(
                f"{self.path}: {rows} rows for {len(ids)} images, expected one row per image or per caption; "
                "see python -m vse_gpo.check_data"
            )

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, row: int) -> Float[Tensor, "regions width"]:
        regions = torch.from_numpy(np.array(self.features[row * self.repeat], dtype=np.float32))
        if not torch.isfinite(regions).all():
            raise VSEError(f"{self.path}: row {row * self.repeat} (image {self.ids[row]}) holds NaN or infinity")
        return regions

    def name(self, row: int) -> str:
        return self.ids[row]


def _open(path: Path) -> np.memmap:
    try:
        features = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise VSEError(f"{path}: no such file; extract features, or see python -m vse_gpo.check_data") from None
    except (ValueError, OSError, EOFError) as error:
        raise VSEError(f"{path}: not a readable .npy file ({str(error).splitlines()[0]})") from None
    if features.ndim != 3 or features.dtype not in (np.float32, np.float16):
        raise VSEError(
            f"{path}: shape {features.shape} of {features.dtype}, expected (images, regions, width) of float32 or float16"
        )
    return features


class PrepareRegions:
    """Regions of images → Features. Nothing to crop; size augmentation happens in the encoder."""

    def __call__(self, images: Sequence[Tensor]) -> Features:
        return self.collate(list(images))

    def encode(self, regions: Tensor, random: np.random.Generator | None = None) -> Tensor:
        return regions

    def collate(self, images: list[Tensor]) -> Features:
        return Features(*pad_sets(images))
