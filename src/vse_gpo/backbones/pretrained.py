"""Pretrained weights: read without running code, loaded so that every one is accounted for, of the width expected."""

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
    """What a .safetensors or .pth file holds, by name.

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
    """Fill a network from what the file held.

    Raises:
        VSEError: if a weight is missing, extra or of another shape.
    """
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise misfit(path, error) from error


def misfit(path: str, error: Exception) -> VSEError:
    """The error for weights that a network does not take."""
    return VSEError(f"{path}: weights of another network: {' '.join(str(error).split())[:300]}")


def check_width(name: str, found: int, expected: int | None, setting: str) -> None:
    """Refuse a network whose features have another width than the projection over them; None takes any.

    Raises:
        VSEError: if the widths differ.
    """
    if expected is not None and found != expected:
        raise VSEError(f"{name} gives features {found} wide, {setting} is {expected}; set {setting}={found}")


def without_gaps(network: Network, info: Mapping[str, Any]) -> Network:
    """A Hugging Face network, refused if its file left weights at random; those of a pooler are of no use here.

    Args:
        network: just loaded.
        info: what ``from_pretrained`` tells with ``output_loading_info``.

    Raises:
        ValueError: as transformers' own where a file does not fit.
    """
    missing = sorted(name for name in info["missing_keys"] if not name.startswith("pooler."))
    if missing:
        raise ValueError(f"{len(missing)} weights are missing, first {missing[0]}")
    return network


def network_of(config: Mapping[str, Any]) -> PreTrainedModel:
    """A Hugging Face network with random weights.

    Args:
        config: as Hugging Face writes it, ``model_type`` included.

    Raises:
        VSEError: if it describes no network.
    """
    try:
        network: PreTrainedModel = AutoModel.from_config(AutoConfig.for_model(**config))
    except (TypeError, ValueError, KeyError) as error:
        raise VSEError(f"no network: {first_line(error)}; expected a config of Hugging Face") from error
    return network.train()


def config_of(network: PreTrainedModel) -> dict[str, Any]:
    """What ``network_of`` builds the same architecture from; where its weights lay and who wrote it is left out."""
    written = network.config.to_dict()
    return {name: value for name, value in written.items() if name not in ("_name_or_path", "transformers_version")}


def check_length(tokens: Tokens, network: PreTrainedModel) -> None:
    """Refuse captions for whose last tokens a text encoder has no position.

    Raises:
        VSEError: if the batch is longer.
    """
    longest: int = getattr(network.config, "max_position_embeddings", -1)  # none where positions are relative
    found = tokens.ids.shape[1]
    if 0 < longest < found:
        raise VSEError(
            f"a caption of {found} tokens, the text encoder takes {longest}; set "
            f"text.prepare.tokenizer.max_tokens={longest}"
        )
