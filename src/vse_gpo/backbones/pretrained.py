"""Pretrained weights: read without running code, loaded with none missing or extra, checked for their width."""

import argparse
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from vse_gpo.errors import VSEError, first_line
from vse_gpo.storage.settings import walk
from vse_gpo.storage.weights import check_file, check_values

HOLDERS = ("state_dict", "model", "state_dict_ema", "model_ema")  # names that trainings keep weights under
DAMAGED = (pickle.UnpicklingError, SafetensorError, zipfile.BadZipFile)


def read_weights(path: str) -> dict[str, Any]:
    """Read a .safetensors or .pth file as name → tensor, or as groups of them, whatever a training wrote around them.

    Takes what timm's own loader takes: weights under ``state_dict`` or ``model``, names that begin with ``module.``, an
    ``argparse.Namespace`` of options beside them.

    Raises:
        VSEError: if the file is missing or damaged, holds no weights or more than tensors and plain containers, or the
            weights are NaN, all zero, or without memory of their own.
    """
    file = Path(path).expanduser()
    try:
        if file.suffix == ".safetensors":
            found: Any = load_file(file)
        else:
            with torch.serialization.safe_globals([argparse.Namespace]):
                found = torch.load(file, map_location="cpu", weights_only=True)
            check_file(file)
    except (OSError, RuntimeError, EOFError, KeyError, ValueError, *DAMAGED) as error:
        raise VSEError(f"{path}: cannot be read as weights ({first_line(error)}); fetch it again") from error
    if isinstance(found, Mapping):
        found = next((found[name] for name in HOLDERS if isinstance(found.get(name), Mapping)), found)
    weights = _cleaned(found)
    leaves = {name: value for name, value in walk(weights) if not isinstance(value, dict)}
    if not leaves or not all(isinstance(value, Tensor) for value in leaves.values()):
        kind = f"{len(found)} entries" if isinstance(found, Mapping) else type(found).__name__
        raise VSEError(
            f"{path}: holds {kind}, expected weights: name → tensor, or these under {' or '.join(HOLDERS[:2])}"
        )
    if odd := [name for name, value in leaves.items() if not _is_plain(value)]:
        raise VSEError(
            f"{path}: {odd[0]} is a sparse, nested or quantized tensor or has no values, expected dense ones"
        )
    try:
        check_values(leaves)
    except VSEError as error:
        raise VSEError(f"{path}: {error}") from error
    return weights


def _is_plain(weight: Tensor) -> bool:
    return weight.layout == torch.strided and not (weight.is_meta or weight.is_nested or weight.is_quantized)


def _cleaned(found: Any) -> dict[str, Any]:
    """Names without what DataParallel put before them; empty if there are none."""
    if not isinstance(found, Mapping) or not all(isinstance(name, str) for name in found):
        return {}
    return {
        name.removeprefix("_orig_mod.").removeprefix("module."): dict(value) if isinstance(value, Mapping) else value
        for name, value in found.items()
    }


def load_weights(network: nn.Module, state: dict[str, Tensor], path: str) -> None:
    """Load the weights of a file into a network.

    Raises:
        VSEError: if a weight is missing, extra or of another shape.
    """
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise misfit(path, error) from error


def misfit(path: str, error: Exception) -> VSEError:
    """The error for weights that do not fit a network."""
    return VSEError(f"{path}: weights of another network: {' '.join(str(error).split())[:300]}")


def check_width(name: str, found: int, expected: int | None, setting: str) -> None:
    """Refuse a network whose features do not have the width that the projection expects; None accepts any.

    Raises:
        VSEError: if the widths differ.
    """
    if expected is not None and found != expected:
        raise VSEError(f"{name} gives features {found} wide, {setting} is {expected}; set {setting}={found}")
