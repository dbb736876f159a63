"""Image backbones: pixels or region features → Features. CLIP's is in ``clip.py``."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torchvision.models import get_weight, resnet

from vse_gpo.backbones.backbone import Backbone
from vse_gpo.backbones.grid import Grid, PixelNormalization, caffe_pixels
from vse_gpo.backbones.pretrained import check_width, load_weights, read_weights
from vse_gpo.batch import Features
from vse_gpo.errors import VSEError, first_line
from vse_gpo.storage.hub import impatient

DEPTHS = (50, 101, 152)  # of ResNets whose blocks are bottlenecks


class Regions(Backbone):
    """Precomputed region features, passed on as they are.

    Args:
        width: width of the features, checked for every batch.
    """

    def __init__(self, width: int = 2048) -> None:
        super().__init__()
        self.width = width

    def forward(self, regions: Features) -> Features:
        if regions.values.shape[-1] != self.width:
            raise VSEError(
                f"region features are {regions.values.shape[-1]} wide, the backbone expects {self.width}; "
                f"set backbone.width={regions.values.shape[-1]} or use the features of this backbone"
            )
        return regions


class ResNetTrunk(nn.Sequential):
    """torchvision's ResNet without its classifier; its parameters keep their names.

    Args:
        network: a ResNet as torchvision builds it.
        caffe: the Caffe form: strides in the first 1×1 convolution of a stage, max-pool without padding.
    """

    def __init__(self, network: resnet.ResNet, *, caffe: bool) -> None:
        names = ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4")
        super().__init__()
        for name in names:
            self.add_module(name, getattr(network, name))
        if caffe:
            self.maxpool = nn.MaxPool2d(kernel_size=3, stride=2, padding=0, ceil_mode=True)
            for stage in (network.layer2, network.layer3, network.layer4):
                stage[0].conv1.stride, stage[0].conv2.stride = (2, 2), (1, 1)


def butd_grid(weights: str | None = None) -> Grid:
    """ResNet-101 of the bottom-up-top-down detector, in Caffe form.

    Args:
        weights: ``original_updown_backbone.pth``, {'base': conv1…layer3 as 0…6, 'top': layer4 as 0}; None: random.
    """
    trunk = ResNetTrunk(resnet.resnet101(), caffe=True)
    if weights is not None:
        load_updown_weights(trunk, weights)
    return Grid(trunk, caffe_pixels())


def load_updown_weights(trunk: ResNetTrunk, path: str) -> None:
    """Load the detector's file into the trunk; no weight may be missing or extra."""
    state = read_weights(path)
    if set(state) != {"base", "top"}:
        raise VSEError(f"{path}: holds {sorted(state)[:3]}, expected 'base' and 'top' of original_updown_backbone.pth")
    base = ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3")
    renamed = {f"layer4.{name.split('.', 1)[1]}": value for name, value in state["top"].items()}
    for name, value in state["base"].items():
        index, rest = name.split(".", 1)
        renamed[f"{base[int(index)]}.{rest}"] = value
    load_weights(trunk, renamed, path)


def imagenet_resnet_grid(
    depth: int, *, pretrained: bool = True, weights: str | None = None, released_strides: bool = False
) -> Grid:
    """ResNet-50, 101 or 152 trained on ImageNet.

    Args:
        depth: number of layers.
        pretrained: fetch torchvision's IMAGENET1K_V1 weights.
        weights: a local file of those weights instead.
        released_strides: use the Caffe form, as the released program did by mistake for its published numbers.

    Raises:
        VSEError: if there is no such depth, or no weights.
    """
    if depth not in DEPTHS:
        raise VSEError(f"backbone.network.depth={depth}, expected one of {', '.join(map(str, DEPTHS))}")
    fetched = get_weight(f"ResNet{depth}_Weights.IMAGENET1K_V1") if pretrained and weights is None else None
    try:
        with impatient():
            network = getattr(resnet, f"resnet{depth}")(weights=fetched)
    except OSError as error:
        raise VSEError(
            f"ResNet-{depth}: no weights ({first_line(error)}); set backbone.network.weights to a file of them"
        ) from error
    if weights is not None:
        load_weights(network, read_weights(weights), weights)
    return Grid(ResNetTrunk(network, caffe=released_strides), PixelNormalization())


def imagenet_resnet152_grid(
    pretrained: bool = True, weights: str | None = None, released_strides: bool = False
) -> Grid:
    """ResNet-152 under the name that saved models know it by; see ``imagenet_resnet_grid``."""
    return imagenet_resnet_grid(152, pretrained=pretrained, weights=weights, released_strides=released_strides)


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
    from vse_gpo.backbones.timm_trunks import TimmGrid, create_trunk  # noqa: PLC0415, importing timm takes a second

    network: Any = create_trunk(name, size=size, pretrained=pretrained, weights=weights)
    check_width(name, network.head_hidden_size, width, "backbone.width")
    normalization = PixelNormalization(network.pretrained_cfg["mean"], network.pretrained_cfg["std"])
    return TimmGrid(network, normalization, cells=cells, class_token=class_token)


def small_grid(width: int = 128) -> Grid:
    """A small trunk to train from scratch on small images: one cell for every 8×8 pixels.

    Args:
        width: width of the features.
    """
    half = 3 * width // 8
    trunk = nn.Sequential(
        _convolution(3, half, kernel=6, stride=4),
        _Residual(_convolution(half, half)),
        Coordinates(),
        _convolution(half + 2, width, stride=2),
        _Residual(_convolution(width, width)),
        _Residual(_convolution(width, width)),
    )
    return Grid(trunk, PixelNormalization(), frozen_statistics=False)


def coarse_grid(width: int = 256) -> Grid:
    """A smaller trunk to train from scratch on small images: one cell for every 16×16 pixels, as large as a thing.

    Sets of few items are cheap to compare; the convolutions overlap, and all but the first know where they are.

    Args:
        width: width of the features.
    """
    trunk = nn.Sequential(
        _convolution(3, width // 4, kernel=8, stride=4),
        Coordinates(),
        _convolution(width // 4 + 2, width // 2, kernel=4, stride=2),
        Coordinates(),
        _convolution(width // 2 + 2, width, kernel=4, stride=2),
    )
    return Grid(trunk, PixelNormalization(), frozen_statistics=False)


class Coordinates(nn.Module):
    """Add two channels with the position of every cell, −1 to 1 (Liu et al. 2018, "CoordConv").

    A pooled set of cells has no order; without positions, an image and its mirror image would be nearly the same.
    """

    def forward(
        self, grid: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch channels_and_2 height width"]:
        batch, _, height, width = grid.shape
        down, across = (torch.linspace(-1, 1, steps, device=grid.device).to(grid.dtype) for steps in (height, width))
        places = torch.stack([across.expand(height, -1), down[:, None].expand(-1, width)])
        return torch.cat([grid, places.expand(batch, -1, -1, -1)], dim=1)


def _convolution(inputs: int, outputs: int, *, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    """Convolution, BatchNorm and ReLU; the map shrinks exactly by the stride."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, padding=(kernel - stride + 1) // 2, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


class _Residual(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs + self.inner(inputs)
