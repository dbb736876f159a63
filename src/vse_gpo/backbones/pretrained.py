"""Pretrained weights: read without running code, loaded with none missing or extra, checked for their width."""

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, PreTrainedModel

from vse_gpo.batch import Tokens
from vse_gpo.errors import VSEError, first_line

Network = TypeVar("Network", bound=PreTrainedModel)


def read_weights(path: str) -> dict[str, Any]:
    """Read the weights in a .safetensors or .pth file, by name.

    Raises:
        VSEError: if it is missing, damaged or holds more than tensors and plain containers.
    """
    place = Path(path).expanduser()
    try:
        if place.suffix == ".safetensors":
            return load_file(place)
        state: dict[str, Any] = torch.load(place, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, pickle.UnpicklingError, SafetensorError) as error:
        raise VSEError(f"{path}: cannot be read as weights ({str(error).splitlines()[0]})") from error
    return state


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
    """Build a Hugging Face network with random weights.

    Args:
        config: a Hugging Face config, ``model_type`` included.

    Raises:
        VSEError: if the config does not describe a network.
    """
    try:
        network: PreTrainedModel = AutoModel.from_config(AutoConfig.for_model(**config))
    except (TypeError, ValueError, KeyError) as error:
        raise VSEError(f"not a network: {first_line(error)}; expected a Hugging Face config") from error
    return network.train()


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
