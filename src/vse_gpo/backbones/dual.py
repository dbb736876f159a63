"""Dual encoders of Hugging Face, whole: CLIP, SigLIP and their kind, each tower with its own pooling and projection.

The library's ``get_image_features`` and ``get_text_features`` say what a model's embedding is; nothing here knows a
family by its name.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from transformers import MODEL_MAPPING, PreTrainedConfig, PreTrainedModel
from transformers.initialization import no_init_weights

from vse_gpo.backbones.backbone import Backbone, Layers
from vse_gpo.backbones.grid import PixelNormalization, full_sets
from vse_gpo.backbones.hugging_face import (
    check_length,
    checkpoint_transformer,
    config_of,
    network_of,
    transformer_layers,
)
from vse_gpo.batch import Features, Tokens, valid_items
from vse_gpo.errors import VSEError

IMAGES, TEXTS = "vis", "text"  # how the names of a tower's parts begin


class DualTower(Backbone):
    """Half of a dual encoder, its projection included.

    Args:
        network: a dual encoder without its other tower; see ``towers``.
        tokens: whether the projected tokens follow the embedding as further items; see ``projected_tokens``.
    """

    whole_items = 1

    def __init__(self, network: PreTrainedModel, *, tokens: bool) -> None:
        super().__init__()
        self.network = network
        self.tokens = tokens

    def layers(self, *, coarse: bool = False) -> Layers:
        return tower_layers(self.network)

    def enable_checkpointing(self, setting: str) -> None:
        checkpoint_transformer(self.network, setting)


class DualImages(DualTower):
    """The image tower of a dual encoder; its pooled and projected embedding is the first item of the set.

    Args:
        network: a dual encoder without its text tower; see ``towers``.
        mean, std, scale: see ``PixelNormalization``.
        tokens: whether the projected patches follow as further items; see ``projected_tokens``.
    """

    has_grid = True

    def __init__(
        self,
        network: PreTrainedModel,
        *,
        mean: Sequence[float],
        std: Sequence[float],
        scale: float = 255.0,
        tokens: bool = False,
    ) -> None:
        super().__init__(network, tokens=tokens)
        self.normalization = PixelNormalization(mean, std, scale=scale)
        self._normalized_by = {"mean": [*mean], "std": [*std], "scale": scale}

    def forward(self, pixels: UInt8[Tensor, "batch 3 height width"]) -> Features:
        network: Any = self.network
        made = network.get_image_features(pixel_values=self.normalization(pixels))
        own = _pooled(made)[:, None]
        if not self.tokens:
            return full_sets(own)
        tower: Any = tower_of(self.network)
        patches = made.last_hidden_state[:, -tower.embeddings.num_patches :]  # the class token is before them
        if not hasattr(tower, "head"):  # CLIP normalises only the token that it pools
            patches = tower.post_layernorm(patches)
        return full_sets(torch.cat([own, projected_tokens(self.network, patches)], dim=1))

    def architecture(self, settings: dict[str, Any]) -> dict[str, Any]:
        return {
            "_target_": "vse_gpo.backbones.dual.dual_images_of",
            "config": _stored_config(self.network),
            **self._normalized_by,
            **({"tokens": True} if self.tokens else {}),
        }


class DualTexts(DualTower):
    """The text tower of a dual encoder; its pooled and projected embedding is the first item of the set.

    Args:
        network: a dual encoder without its image tower; see ``towers``.
        masked: whether attention leaves padding out; False for towers that were trained to read it.
        tokens: whether the projected tokens of the caption follow as further items; see ``projected_tokens``.
        pad_to: number of tokens that the tower pads every caption to, for towers that read padding and whose tokeniser
            does not write it; 0 pads nothing.
        pad_id: token that it pads with.
    """

    def __init__(
        self, network: PreTrainedModel, *, masked: bool, tokens: bool = False, pad_to: int = 0, pad_id: int = 0
    ) -> None:
        super().__init__(network, tokens=tokens)
        self.masked = masked
        self.pad_to, self.pad_id = pad_to, pad_id

    def forward(self, tokens: Tokens) -> Features:
        check_length(tokens, tower_of(self.network))
        items = tokens.ids.shape[1]
        ids, mask = tokens.ids, None
        if self.masked:
            mask = valid_items(tokens.lengths, items, ids.device).long()
        if self.pad_to:
            valid = valid_items(tokens.lengths, items, ids.device)
            ids = nn.functional.pad(ids.masked_fill(~valid, self.pad_id), (0, self.pad_to - items), value=self.pad_id)
        network: Any = self.network
        made = network.get_text_features(input_ids=ids, attention_mask=mask)
        own = _pooled(made)[:, None]
        if not self.tokens:
            return full_sets(own)
        words = projected_tokens(self.network, made.last_hidden_state[:, :items])
        return Features(torch.cat([own, words], dim=1), tokens.lengths + 1)

    def architecture(self, settings: dict[str, Any]) -> dict[str, Any]:
        return {
            "_target_": "vse_gpo.backbones.dual.dual_texts_of",
            "config": _stored_config(self.network),
            "masked": self.masked,
            **({"tokens": True} if self.tokens else {}),
            **({"pad_to": self.pad_to, "pad_id": self.pad_id} if self.pad_to else {}),
        }


def dual_images_of(
    config: Mapping[str, Any],
    *,
    mean: Sequence[float],
    std: Sequence[float],
    scale: float = 255.0,
    tokens: bool = False,
) -> DualImages:
    """Build the image tower of a dual encoder; its weights are loaded next and hold anything until then.

    Args:
        config: a Hugging Face config of the whole model.
        mean, std, scale, tokens: see ``DualImages``.

    Raises:
        VSEError: if the config does not describe a dual encoder.
    """
    return DualImages(_without(_empty(config), TEXTS), mean=mean, std=std, scale=scale, tokens=tokens)


def dual_texts_of(
    config: Mapping[str, Any], *, masked: bool, tokens: bool = False, pad_to: int = 0, pad_id: int = 0
) -> DualTexts:
    """Build the text tower of a dual encoder; see ``dual_images_of``.

    Args:
        config: a Hugging Face config of the whole model.
        masked, tokens, pad_to, pad_id: see ``DualTexts``.

    Raises:
        VSEError: if the config does not describe a dual encoder.
    """
    texts = _without(_empty(config), IMAGES)
    return DualTexts(texts, masked=masked, tokens=tokens, pad_to=pad_to, pad_id=pad_id)


def projected_tokens(
    half: PreTrainedModel, tokens: Float[Tensor, "batch items width"]
) -> Float[Tensor, "batch items dim"]:
    """Tokens in the space of the embedding: what the tower's head and projection make of each token on its own.

    CLIP projects the token that it pools; here it projects every token. SigLIP's image tower pools by attention; here a
    token is pooled by itself, without the attention's choice ("MaskCLIP", Zhou et al. 2022).

    Args:
        half: an image or text tower with its projection.
        tokens: as the tower's pooling takes them.
    """
    tower = tower_of(half)
    rows = tokens.flatten(0, 1)[:, None]
    heads = [part for name, part in tower.named_children() if name == "head"]
    for part in [*heads, *(part for part in half.children() if part is not tower)]:
        rows = part(rows)
    return rows.reshape(*tokens.shape[:2], -1)


def dual_class(config: PreTrainedConfig) -> type[PreTrainedModel] | None:
    """The library's class of a dual encoder; None if the config is of another kind of model."""
    found: Any = MODEL_MAPPING.get(type(config), None)
    if found is None or not (hasattr(found, "get_image_features") and hasattr(found, "get_text_features")):
        return None
    family: type[PreTrainedModel] = found
    return family


def towers(network: PreTrainedModel) -> tuple[PreTrainedModel, PreTrainedModel]:
    """Split a dual encoder into its image and its text half; the halves share nothing, and the network is used up.

    Raises:
        VSEError: if it has parts that belong to neither tower.
    """
    with torch.device("meta"):
        other = type(network)(network.config)
    for name, part in network.named_children():
        setattr(other, name, part)
    return _without(network, TEXTS), _without(other, IMAGES)


def tower_of(half: PreTrainedModel) -> PreTrainedModel:
    """The transformer in a half of a dual encoder, apart from its projection."""
    return next(part for part in half.children() if isinstance(part, PreTrainedModel))


def longest_text(texts: PreTrainedModel) -> int:
    """Number of tokens that a text tower has positions for; RoBERTa's kind counts from behind its padding id."""
    positions = (part for name, part in texts.named_modules() if "position_embedding" in name)
    table = next((part for part in positions if isinstance(part, nn.Embedding)), None)
    if table is None:
        raise VSEError("its text tower has no table of positions, so the longest caption is not known")
    return table.num_embeddings - (0 if table.padding_idx is None else table.padding_idx + 1)


def tower_layers(half: PreTrainedModel) -> Layers:
    """Layers of a tower, from the input up; its projection joins the top layer."""
    tower = tower_of(half)
    layers = transformer_layers(tower)
    inside = set(tower.parameters())
    layers[-1].extend(parameter for parameter in half.parameters() if parameter not in inside)
    return layers


def _stored_config(half: PreTrainedModel) -> dict[str, Any]:
    """Config of a dual encoder as JSON keeps it, without the number format of its file: weights are float32 here."""

    def plain(config: Mapping[Any, Any]) -> dict[str, Any]:
        kept = {str(name): value for name, value in config.items() if name != "dtype"}
        return {name: plain(value) if isinstance(value, Mapping) else value for name, value in kept.items()}

    return plain(config_of(half))


def _empty(config: Mapping[str, Any]) -> PreTrainedModel:
    """A dual encoder whose weights hold anything: initialising hundreds of millions of them takes seconds."""
    with no_init_weights():
        network = network_of(config)
    if dual_class(network.config) is None:
        raise VSEError(f"{network.config.model_type} is not a dual encoder, expected the config of CLIP or its kind")
    return network


def _without(network: PreTrainedModel, tower: str) -> PreTrainedModel:
    """Remove a tower, and what belongs to no tower: logit scale and bias."""
    if strange := [name for name, _ in network.named_children() if not name.startswith((IMAGES, TEXTS))]:
        raise VSEError(f"{network.config.model_type} has {strange[0]} beside its two towers; such models are not taken")
    for name, _ in list(network.named_children()):
        if name.startswith(tower):
            delattr(network, name)
    for name, _ in list(network.named_parameters(recurse=False)):
        delattr(network, name)
    return network


def _pooled(made: Any) -> Float[Tensor, "batch dim"]:
    if made.pooler_output is None:
        raise VSEError("its tower gives no pooled embedding; expected a model that was trained with both towers")
    return made.pooler_output
