"""Write weights as safetensors, and check that weights belong to a network."""

import hashlib
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from vse_gpo.errors import VSEError
from vse_gpo.storage.adapters import merged_weights

HASH = "sha256"  # in a file's metadata


def write_weights(module: nn.Module, path: Path) -> None:
    """Write all weights as safetensors, adapters merged, with their hash.

    Raises:
        VSEError: if they hold NaN or infinity, or all matrices are zero.
    """
    weights = {name: weight.contiguous() for name, weight in merged_weights(module.state_dict()).items()}
    check_values(weights)
    save_file(weights, path, {HASH: hash_of(weights)})


def read_whole_weights(path: Path) -> dict[str, Tensor]:
    """Read weights that ``write_weights`` wrote; those of earlier versions have no hash.

    Raises:
        VSEError: if they do not have the hash that they were written with.
    """
    weights = load_file(path)
    with safe_open(path, "pt") as file:
        expected = (file.metadata() or {}).get(HASH)
    if expected not in (None, hash_of(weights)):
        raise VSEError(f"{path}: damaged, its weights do not have the hash that they were saved with; fetch it again")
    return weights


def hash_of(weights: Mapping[str, Tensor], before: bytes = b"") -> str:
    """SHA-256 of names, types, shapes and values, after whatever comes before them."""
    digest = hashlib.sha256(before)
    for name, weight in sorted(weights.items()):
        digest.update(f"{name} {weight.dtype} {tuple(weight.shape)}".encode())
        values: Any = weight.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
        digest.update(values)
    return digest.hexdigest()


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
    floats = {name: weight for name, weight in weights.items() if weight.is_floating_point() or weight.is_complex()}
    if broken := [name for name, weight in floats.items() if not _is_finite(weight)]:
        raise VSEError(
            f"weights with NaN or infinity: {len(broken)} of {len(weights)}, first {min(broken)}; take an earlier "
            "checkpoint"
        )
    matrices = [weight.float() if weight.itemsize == 1 else weight for weight in floats.values() if weight.ndim > 1]
    if matrices and not any((weight != 0).any() for weight in matrices):
        raise VSEError(f"all {len(matrices)} matrices are zero; expected trained weights, fetch them again")


def _is_finite(weight: Tensor) -> bool:
    if weight.itemsize == 1:  # eight bits, whose values PyTorch only converts
        weight = weight.float()
    return bool(torch.isfinite(weight).all())


def check_file(path: Path) -> None:
    """Refuse a file of ``torch.save`` in which a bit has flipped; the format before zip has no checksums.

    Raises:
        RuntimeError: if a part does not have its checksum.
    """
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as file:
            if broken := file.testzip():
                raise RuntimeError(f"{broken} does not have its checksum")
