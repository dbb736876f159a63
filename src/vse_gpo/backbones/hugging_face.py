"""Networks of Hugging Face's transformers: built from a config that may come from anywhere, layer by layer, quietly."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

from torch import nn
from transformers import AutoConfig, AutoModel, PreTrainedConfig, PreTrainedModel
from transformers.utils import logging

from vse_gpo.backbones.backbone import Layers, no_checkpointing
from vse_gpo.batch import Tokens
from vse_gpo.errors import VSEError, first_line

UNSAFE = {"attn_implementation", "auto_map", "dtype", "quantization_config", "torch_dtype"}  # may fetch or run code
NAMED = {"model_type"}

Network = TypeVar("Network", bound=PreTrainedModel)


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


def checkpoint_transformer(network: PreTrainedModel, setting: str) -> None:
    """Turn on the gradient checkpointing of a Hugging Face network; see ``Backbone.enable_checkpointing``.

    Raises:
        VSEError: if it has none.
    """
    if not network.supports_gradient_checkpointing:
        raise no_checkpointing(setting, type(network).__name__)
    network.config.use_cache = False  # which no encoder uses; else transformers logs that it is turned off
    older: Any = network.gradient_checkpointing_enable
    getattr(network, "activation_checkpointing_enable", older)({"use_reentrant": False})  # its name in newer versions


def transformer_layers(network: PreTrainedModel) -> Layers:
    """The embeddings of a Hugging Face encoder, then its layers one by one.

    Parameters registered before the layers form the bottom layer; those after them join the top layer.

    Raises:
        VSEError: if the network has no stack of ``config.num_hidden_layers`` layers; ALBERT, for example, shares one.
    """
    depth: int = network.config.num_hidden_layers
    stack = next((part for part in network.modules() if isinstance(part, nn.ModuleList) and len(part) == depth), None)
    if stack is None:
        raise VSEError(
            f"{network.config.model_type}: no stack of {depth} layers, so none can be slowed down or frozen by itself; "
            "set optimizer.layer_decay=1.0, and trunk to frozen or trainable in the phases"
        )
    layers: Layers = [[], *(list(layer.parameters()) for layer in stack)]
    depths = {parameter: index for index, layer in enumerate(layers) for parameter in layer}
    reached = 0
    for parameter in network.parameters():
        if parameter in depths:
            reached = depths[parameter]
        else:
            layers[reached].append(parameter)
    return layers


@contextmanager
def quietly() -> Iterator[None]:
    """Hide the progress bars and remarks of transformers while it loads a model."""
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
