"""The towers of open_clip's models (Ilharco et al. 2021), whole; needs the extra ``open_clip``."""

from collections.abc import Mapping, Sequence
from typing import Any

from jaxtyping import UInt8
from torch import Tensor, nn

from vse_gpo.backbones.backbone import Backbone
from vse_gpo.backbones.grid import PixelNormalization, full_sets
from vse_gpo.batch import Features, Tokens
from vse_gpo.errors import VSEError, first_line

try:
    from open_clip import CustomTextCLIP
except ImportError as error:
    raise VSEError("models of open_clip need it, and it is not installed; pip install 'vse_gpo[open_clip]'") from error

TAKEN = ("embed_dim", "vision_cfg", "text_cfg", "quick_gelu")  # of a model's config; the others are for training


class OpenClipImageTower(Backbone):
    """open_clip's image tower; its embedding is the only item of the set.

    Args:
        tower: normalised pixels → embeddings.
        config: open_clip's ``model_cfg``.
        mean, std: see ``PixelNormalization``.
    """

    whole_items = 1

    def __init__(
        self, tower: nn.Module, config: Mapping[str, Any], *, mean: Sequence[float], std: Sequence[float]
    ) -> None:
        super().__init__()
        self.tower = tower
        self.normalization = PixelNormalization(mean, std)
        self._settings = {"config": dict(config), "mean": [*mean], "std": [*std]}

    def forward(self, pixels: UInt8[Tensor, "batch 3 height width"]) -> Features:
        return full_sets(self.tower(self.normalization(pixels))[:, None])

    def architecture(self, settings: dict[str, Any]) -> dict[str, Any]:
        return {"_target_": "vse_gpo.backbones.open_clip.open_clip_images_of", **self._settings}


class OpenClipTextTower(Backbone):
    """open_clip's text tower, which reads padding too; its embedding is the only item of the set.

    Args:
        tower: token ids → embeddings.
        config: open_clip's ``model_cfg``.
    """

    whole_items = 1

    def __init__(self, tower: nn.Module, config: Mapping[str, Any]) -> None:
        super().__init__()
        self.tower = tower
        self._settings = {"config": dict(config)}

    def forward(self, tokens: Tokens) -> Features:
        return full_sets(self.tower(tokens.ids)[:, None])

    def architecture(self, settings: dict[str, Any]) -> dict[str, Any]:
        return {"_target_": "vse_gpo.backbones.open_clip.open_clip_texts_of", **self._settings}


def open_clip_images_of(
    config: Mapping[str, Any], *, mean: Sequence[float], std: Sequence[float]
) -> OpenClipImageTower:
    """Build open_clip's image tower with random weights.

    Args:
        config: open_clip's ``model_cfg``; it may come from anywhere.
        mean, std: see ``PixelNormalization``.

    Raises:
        VSEError: if open_clip refuses the config, or it fetches parts from elsewhere.
    """
    return OpenClipImageTower(_both(config).visual, config, mean=mean, std=std)


def open_clip_texts_of(config: Mapping[str, Any]) -> OpenClipTextTower:
    """Build open_clip's text tower with random weights; see ``open_clip_images_of``."""
    return OpenClipTextTower(_both(config).text, config)


def taken_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """The part of open_clip's ``model_cfg`` that describes two towers.

    Raises:
        VSEError: if it describes more, or a tower that is fetched from elsewhere.
    """
    try:
        images, texts = dict(config["vision_cfg"]), dict(config["text_cfg"])
    except (KeyError, TypeError, ValueError) as error:
        raise VSEError(
            f"not open_clip's model_cfg ({first_line(error)}), expected its vision_cfg and text_cfg"
        ) from error
    if "multimodal_cfg" in config:
        raise VSEError("a CoCa, whose text tower also writes captions; such models are not taken")
    if texts.get("hf_model_name"):
        raise VSEError(f"its text tower is {texts['hf_model_name']} of the hub; such models are not taken")
    if any(sign in str(images.get("timm_model_name") or "") for sign in ":/"):
        raise VSEError(f"its image tower {images['timm_model_name']} is fetched from elsewhere, which is refused")
    if images.get("timm_model_name"):
        images["timm_model_pretrained"] = False
    kept = {name: value for name, value in config.items() if name in TAKEN}
    return kept | {"vision_cfg": images, "text_cfg": texts}


def _both(config: Mapping[str, Any]) -> Any:
    try:
        return CustomTextCLIP(**taken_config(config))
    except (TypeError, ValueError, KeyError, RuntimeError, AssertionError) as error:
        if isinstance(error, VSEError):
            raise
        raise VSEError(f"not a model of open_clip: {first_line(error)}") from error
