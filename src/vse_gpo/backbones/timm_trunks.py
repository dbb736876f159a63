"""Trunks of timm: how they are built, and which part of their output is the set."""

from collections.abc import Sequence
from difflib import get_close_matches
from math import isqrt
from typing import Any, Protocol, runtime_checkable

import timm
import torch
from jaxtyping import Float, UInt8
from timm.models import group_parameters
from torch import Tensor, nn

from vse_gpo.backbones.backbone import Layers, no_checkpointing
from vse_gpo.backbones.grid import Grid, PixelNormalization, cells_of, full_sets
from vse_gpo.backbones.pretrained import check_width, misfit, read_weights
from vse_gpo.batch import Features
from vse_gpo.errors import VSEError, first_line
from vse_gpo.storage.hub import impatient, refusal

HUB_FILES = ("model.safetensors", "pytorch_model.bin")  # of timm's models
OWN_FILE = "set backbone.network.weights to a file of them"


@runtime_checkable
class KnowsItsLayers(Protocol):
    """A network that timm can decay or freeze layer by layer, as nearly all are."""

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]: ...


class TimmGrid(Grid):
    """A trunk of timm; the cells of its map, or its patch tokens, are the set.

    Register tokens are left out. Distilled transformers, which have a second output, are refused at their first batch.

    Args:
        network: without pooling and classifier; pixels → map (B, C, H, W) or (B, H, W, C), or tokens (B, N, C), with
            tokens that have no place in the image first.
        normalization: bytes → normalised pixels.
        cells: average-pool map or patch tokens to this many cells per side; None keeps the trunk's own.
        class_token: keep the class token, as the first item of the set.

    Raises:
        VSEError: if the class token is wanted but the network has none.
    """

    def __init__(
        self, network: nn.Module, normalization: PixelNormalization, *, cells: int | None, class_token: bool
    ) -> None:
        super().__init__(network, normalization, cells=cells)
        # attributes of timm's networks; those that give a map (B, C, H, W) may lack them
        self.channels_last = getattr(network, "output_fmt", "NCHW") == "NHWC"
        self.prefix: int = getattr(network, "num_prefix_tokens", 0)
        if class_token and getattr(network, "cls_token", None) is None:
            raise VSEError(f"{type(network).__name__} has no class token; set backbone.network.class_token=false")
        self.class_token = class_token
        self.whole_items = int(class_token)

    def forward(self, pixels: UInt8[Tensor, "batch 3 height width"]) -> Features:
        grid, prefix = self._split(self.trunk(self.normalization(pixels)))
        cells = cells_of(grid, self.cells)
        return full_sets(torch.cat([prefix[:, :1], cells], dim=1) if self.class_token else cells)

    def layers(self, *, coarse: bool = False) -> Layers:
        """The groups of timm: a transformer's blocks; a convolutional trunk's blocks, or its stages if coarse.

        A norm after the last stage, which timm counts as a stage for some trunks, joins the last stage.
        """
        if not isinstance(self.trunk, KnowsItsLayers):
            return super().layers(coarse=coarse)
        groups = list(group_parameters(self.trunk, self.trunk.group_matcher(coarse), return_values=True).values())
        if coarse and len(groups) > 1 and all(parameter.ndim == 1 for parameter in groups[-1]):
            groups[-2:] = [groups[-2] + groups[-1]]
        return groups

    def enable_checkpointing(self, setting: str) -> None:
        """The switch of timm, which few trunks lack; see ``Backbone.enable_checkpointing``."""
        network: Any = self.trunk
        try:
            network.set_grad_checkpointing(True)
        except (AssertionError, AttributeError) as error:  # how timm's trunks without it refuse
            raise no_checkpointing(setting, type(network).__name__) from error

    def _split(self, found: Any) -> tuple[Float[Tensor, "batch dim height width"], Float[Tensor, "batch prefix dim"]]:
        """Split the trunk's output into a map and the tokens before it."""
        if isinstance(found, Tensor) and found.ndim == 4:
            grid = found.permute(0, 3, 1, 2) if self.channels_last else found
            return grid, grid.new_empty(grid.shape[0], 0, grid.shape[1])  # len() would fix it in an exported graph
        side = isqrt(found.shape[1] - self.prefix) if isinstance(found, Tensor) and found.ndim == 3 else 0
        if side < 2 or side * side != found.shape[1] - self.prefix:
            raise VSEError(
                f"{type(self.trunk).__name__} gives neither one map nor the tokens of a square grid; choose another "
                "trunk by backbone.network.name"
            )
        patches = found[:, self.prefix :].transpose(1, 2).unflatten(2, (side, side))
        return patches, found[:, : self.prefix]


def create_trunk(name: str, *, size: int | None, pretrained: bool, weights: str | None) -> nn.Module:
    """Build a timm network without pooling and classifier; see ``vse_gpo.backbones.timm_trunks.timm_grid``."""
    if not timm.is_model(name):
        near = get_close_matches(name.split(".", maxsplit=1)[0], timm.list_models(), n=3)
        raise VSEError(f"timm has no model {name!r}; the nearest are {', '.join(near) or 'none'}")
    settings = _settings(name)
    side = size if size is not None and settings.fixed_input_size else settings.input_size[-1]
    arguments: dict[str, Any] = {"num_classes": 0} | ({"img_size": side} if settings.fixed_input_size else {})
    if weights is not None:
        arguments["pretrained_cfg_overlay"] = _own_weights(settings.classifier or (), weights)
    elif pretrained and settings.hf_hub_id and (reason := refusal(settings.hf_hub_id, *HUB_FILES)):
        raise VSEError(f"{name}: no weights ({reason}); {OWN_FILE}")
    try:
        with impatient():
            network: Any = timm.create_model(name, pretrained=pretrained or weights is not None, **arguments)
        network.reset_classifier(0, "")
        if side != settings.input_size[-1]:
            _try(network, side)
    except (OSError, RuntimeError, KeyError) as error:
        if weights is not None:
            raise misfit(weights, error) from error
        raise VSEError(f"{name}: no weights ({first_line(error)}); {OWN_FILE}") from error
    except (TypeError, ValueError, AssertionError) as error:
        raise VSEError(
            f"timm cannot build {name} without its pooling for {side}×{side} pixels ({first_line(error)}); change "
            "backbone.network.name or backbone.prepare.size"
        ) from error
    network.pretrained_cfg.pop("state_dict", None)  # a second copy of the weights
    trunk: nn.Module = network
    return trunk


def _settings(name: str) -> Any:
    """What timm knows about a network, such as whether its input size is fixed and the name of its classifier."""
    try:
        return timm.get_pretrained_cfg(name, allow_unregistered=False)
    except RuntimeError as error:
        known = timm.list_pretrained(f"{name.split('.', maxsplit=1)[0]}.*")
        raise VSEError(f"{first_line(error)} timm has {', '.join(known) or 'none'}") from error


def _try(network: nn.Module, size: int) -> None:
    """Run a blank image: for a size that it does not support, a network may fail only now."""
    try:
        with torch.no_grad():
            network.eval()(torch.zeros(1, 3, size, size))
    except RuntimeError as error:
        raise ValueError(first_line(error)) from error
    finally:
        network.train()


def _own_weights(classifiers: str | Sequence[str], path: str) -> dict[str, Any]:
    """Config that makes timm load a file's weights, all but the classifier's, resized to the input if possible."""
    names = (classifiers,) if isinstance(classifiers, str) else classifiers
    dropped = {f"{name}.{part}" for name in names for part in ("weight", "bias")}
    state = {name: value for name, value in read_weights(path).items() if name not in dropped}
    return {"state_dict": state, "num_classes": 0, "label_offset": 0}  # as many classes as the network: timm is strict


def timm_grid(
    name: str,
    *,
    width: int | None = None,
    size: int | None = None,
    pretrained: bool = True,
    weights: str | None = None,
    cells: int | None = None,
    class_token: bool = False,
) -> Grid:
    """Build any timm trunk with the mean and standard deviation of its training; its cells or patch tokens are the set.

    Args:
        name: timm's name, with its tag where weights are fetched.
        width: required width of the features; None accepts any.
        size: side of the images, for trunks that are built for one size, such as most transformers; their position
            embeddings are resized. None keeps the size of their training.
        pretrained: fetch timm's weights from the hub.
        weights: a local file (.safetensors or .pth) under timm's names, instead of the hub.
        cells: average-pool cells or patch tokens to this many per side.
        class_token: keep a transformer's class token as the first item; register tokens are never kept.

    Raises:
        VSEError: if timm has no such model (the nearest names are listed) or cannot build it for the size, its features
            have another width, or the weights belong to another network.
    """
    network: Any = create_trunk(name, size=size, pretrained=pretrained, weights=weights)
    check_width(name, network.head_hidden_size, width, "backbone.width")
    normalization = PixelNormalization(network.pretrained_cfg["mean"], network.pretrained_cfg["std"])
    return TimmGrid(network, normalization, cells=cells, class_token=class_token)
