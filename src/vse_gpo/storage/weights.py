"""Write weights as safetensors, and check that weights belong to a network."""

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from vse_gpo.errors import VSEError


def write_weights(module: nn.Module, path: Path) -> None:
    """Write all weights as safetensors."""
    save_file({name: weight.contiguous() for name, weight in module.state_dict().items()}, path)


def check_weights(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Refuse weights of another model before any of them is loaded.

    Raises:
        VSEError: if a weight is missing, extra or of another shape.
    """
    differing = [
        name
        for name in found.keys() | expected.keys()
        if name not in found or name not in expected or found[name].shape != expected[name].shape
    ]
    if differing:
        raise VSEError(
            f"weights of another model: {len(differing)} of {len(expected)} are missing, extra or of another shape, "
            f"first {min(differing)}; use the config that these weights were trained with"
        )


def check_values(weights: Mapping[str, Tensor]) -> None:
    """Refuse weights that no training ends with.

    Raises:
        VSEError: if one holds NaN or infinity, or all matrices are zero.
    """
    floats = {name: weight for name, weight in weights.items() if weight.is_floating_point()}
    if broken := [name for name, weight in floats.items() if not torch.isfinite(weight).all()]:
        raise VSEError(
            f"weights with NaN or infinity: {len(broken)} of {len(weights)}, first {min(broken)}; take an earlier "
            "checkpoint"
        )
    matrices = [weight for weight in floats.values() if weight.ndim > 1]
    if matrices and not any(weight.any() for weight in matrices):
        raise VSEError(f"all {len(matrices)} matrices are zero; expected trained weights, fetch them again")
