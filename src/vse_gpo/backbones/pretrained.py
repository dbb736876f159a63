"""Pretrained weights: read without running code, loaded with none missing or extra, checked for their width."""

import argparse
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, PreTrainedConfig, PreTrainedModel

from vse_gpo.batch import Tokens
from vse_gpo.errors import VSEError, first_line
from vse_gpo.storage.settings import walk
from vse_gpo.storage.weights import check_file, check_values

UNSAFE = {"attn_implementation", "auto_map", "dtype", "quantization_config", "torch_dtype"}  # may fetch or run code
NAMED = {"model_type"}
HOLDERS = ("state_dict", "model", "state_dict_ema", "model_ema")  # names that trainings keep weights under
DAMAGED = (pickle.UnpicklingError, SafetensorError, zipfile.BadZipFile)

Network = TypeVar("Network", bound=PreTrainedModel)


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


def without_gaps(network: Network, info: Mapping[str, Any]) -> Network:
    """Refuse a Hugging Face network if its file left weights random; those of a pooler are not used and may be.

    Args:
        network: the loaded network, which is returned.
        info: loading info of ``from_pretrained`` with ``output_loading_info``.

    Raises:
        ValueError: if weights are missing; transformers raises it too if a file does not fit.
    """
    missing = sorted(name for name in info["missing_keys"] if not name.startswith("pooler."))
    if missing:
        raise ValueError(f"{len(missing)} weights are missing, first {missing[0]}")
    return network


def network_of(config: Mapping[str, Any]) -> PreTrainedModel:
    """A Hugging Face network with random weights; what its architecture does not need is left out of the config.

    Args:
        config: as Hugging Face writes it, ``model_type`` included; it may come from anywhere.

    Raises:
        VSEError: if it describes no network, or one that fetches parts from elsewhere.
    """
    try:
        network: PreTrainedModel = AutoModel.from_config(safe_config(config), trust_remote_code=False)
    except (TypeError, ValueError, KeyError) as error:
        raise VSEError(f"not a network: {first_line(error)}; expected a Hugging Face config") from error
    return network.train()


def safe_config(config: Mapping[str, Any]) -> PreTrainedConfig:
    """A config that only describes an architecture: what may fetch or run code is left out, at every depth.

    Args:
        config: as Hugging Face writes it; it may come from anywhere.

    Raises:
        ValueError: if it describes no network, or one that fetches parts from elsewhere; KeyError and TypeError too.
    """
    known = AutoConfig.for_model(config["model_type"]).to_dict()
    if nested := [name for name in config if "backbone" in name]:
        raise ValueError(f"{nested[0]} may fetch another network")
    return AutoConfig.for_model(**_known_only(config, known))


def _known_only(config: Mapping[str, Any], known: Mapping[str, Any]) -> dict[str, Any]:
    """The safe settings of a config and of the towers in it."""

    def kept(name: str, value: Any) -> Any:
        tower = isinstance(value, Mapping) and isinstance(known.get(name), Mapping) and "model_type" in known[name]
        return _known_only(value, known[name]) if tower else value

    return {name: kept(name, value) for name, value in config.items() if name in (known.keys() - UNSAFE) | NAMED}


def config_of(network: PreTrainedModel) -> dict[str, Any]:
    """Config from which ``network_of`` builds the same architecture, without the weights' path and library version."""
    written = network.config.to_dict()
    return {name: value for name, value in written.items() if name not in ("_name_or_path", "transformers_version")}


def check_length(tokens: Tokens, network: PreTrainedModel) -> None:
    """Refuse captions with more tokens than the text encoder has positions.

    Raises:
        VSEError: if the batch has more.
    """
    longest: int = getattr(network.config, "max_position_embeddings", -1)  # missing for relative positions
    found = tokens.ids.shape[1]
    if 0 < longest < found:
        raise VSEError(
            f"a caption of {found} tokens, the text encoder takes {longest}; set "
            f"text.prepare.tokenizer.max_tokens={longest}"
        )
