"""CLIP's two towers as backbones (Radford et al. 2021): patch tokens of its image tower, tokens of its text tower.

Uses transformers, not open_clip: the hub has the same weights as safetensors, and transformers is a dependency already.
"""

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import UInt8
from torch import Tensor, nn
from transformers import AutoConfig, CLIPModel, PreTrainedModel
from transformers.utils.constants import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD

from vse_gpo.backbones.backbone import Backbone, Layers
from vse_gpo.backbones.grid import PixelNormalization, full_sets
from vse_gpo.backbones.hugging_face import (
    check_length,
    checkpoint_transformer,
    config_of,
    network_of,
    transformer_layers,
    without_gaps,
)
from vse_gpo.backbones.pretrained import check_width
from vse_gpo.batch import Features, Tokens
from vse_gpo.storage.hub import load_pretrained

REMEDY = "name one such as openai/clip-vit-base-patch32, or a folder with its config.json and weights"


class ClipImages(Backbone):
    """Tokens of CLIP's vision transformer before its last normalisation, which CLIP applies only to the class token.

    Images of another size than in CLIP's training get interpolated position embeddings.

    Args:
        network: CLIP's vision transformer.
        class_token: keep the class token, as the first item of the set.
    """

    has_grid = True

    def __init__(self, network: PreTrainedModel, *, class_token: bool) -> None:
        super().__init__()
        network.post_layernorm = nn.Identity()
        self.network = network
        self.normalization = PixelNormalization(OPENAI_CLIP_MEAN, OPENAI_CLIP_STD)
        self.class_token = class_token
        self.whole_items = int(class_token)

    def forward(self, pixels: UInt8[Tensor, "batch 3 height width"]) -> Features:
        tokens = self.network(self.normalization(pixels), interpolate_pos_encoding=True).last_hidden_state
        return full_sets(tokens if self.class_token else tokens[:, 1:])

    def layers(self, *, coarse: bool = False) -> Layers:
        return transformer_layers(self.network)

    def compilable(self) -> nn.Module:
        return self.network

    def enable_checkpointing(self, setting: str) -> None:
        checkpoint_transformer(self.network, setting)

    def architecture(self, settings: dict[str, Any]) -> dict[str, Any]:
        config = config_of(self.network)
        return {"_target_": "vse_gpo.backbones.clip.clip_images_of", "config": config, "class_token": self.class_token}


class ClipTexts(Backbone):
    """Tokens of CLIP's text transformer, start and end token included.

    Args:
        network: CLIP's text transformer; a token attends only to itself and to earlier ones, never to padding.
    """

    def __init__(self, network: PreTrainedModel) -> None:
        super().__init__()
        self.network = network

    def forward(self, tokens: Tokens) -> Features:
        check_length(tokens, self.network)
        return Features(self.network(tokens.ids).last_hidden_state, tokens.lengths)

    def layers(self, *, coarse: bool = False) -> Layers:
        return transformer_layers(self.network)

    def compilable(self) -> nn.Module:
        return self.network

    def enable_checkpointing(self, setting: str) -> None:
        checkpoint_transformer(self.network, setting)

    def architecture(self, settings: dict[str, Any]) -> dict[str, Any]:
        return {"_target_": "vse_gpo.backbones.clip.clip_texts_of", "config": config_of(self.network)}


def clip_images(
    pretrained: str, *, width: int | None = None, class_token: bool = True, random_weights: bool = False
) -> ClipImages:
    """Load the image tower of a CLIP model, in float32.

    Args:
        pretrained: hub id of a CLIP model, or a folder that holds one.
        width: required width of the features; None accepts any.
        class_token: see ``ClipImages``.
        random_weights: load only the architecture.

    Raises:
        VSEError: if there is no CLIP model, weights are missing, or its features have another width.
    """
    clip = _load_clip(pretrained, "backbone.pretrained", random_weights=random_weights)
    check_width(pretrained, clip.vision_model.config.hidden_size, width, "backbone.width")
    return ClipImages(clip.vision_model.train(), class_token=class_token)


def clip_texts(pretrained: str, *, width: int | None = None, random_weights: bool = False) -> ClipTexts:
    """Load the text tower of a CLIP model, in float32; see ``clip_images``."""
    clip = _load_clip(pretrained, "text.pretrained", random_weights=random_weights)
    check_width(pretrained, clip.text_model.config.hidden_size, width, "text.width")
    return ClipTexts(clip.text_model.train())


def clip_images_of(config: Mapping[str, Any], *, class_token: bool) -> ClipImages:
    """Build an image tower with random weights from a Hugging Face config."""
    return ClipImages(network_of(config), class_token=class_token)


def clip_texts_of(config: Mapping[str, Any]) -> ClipTexts:
    """Build a text tower with random weights from a Hugging Face config."""
    return ClipTexts(network_of(config))


def _load_clip(pretrained: str, setting: str, *, random_weights: bool) -> CLIPModel:
    """Load both towers; loading only one would report every weight of the other."""

    def load(name: str) -> CLIPModel:
        config = AutoConfig.from_pretrained(name)
        if config.model_type != "clip":
            raise ValueError(f"it is {config.model_type}")
        if random_weights:
            return CLIPModel(config)
        loaded: Any = CLIPModel.from_pretrained(name, dtype=torch.float32, output_loading_info=True)
        return without_gaps(*loaded)

    return load_pretrained(load, pretrained, setting, expected="CLIP", remedy=REMEDY)
