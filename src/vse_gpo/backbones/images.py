"""Image backbones: pixels or region features → Features. Each grid trunk normalises its own pixels."""

import pickle
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import timm
import torch
from jaxtyping import Float, UInt8
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torchvision.models import resnet

from vse_gpo.batch import Features
from vse_gpo.errors import VSEError

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class Regions(nn.Module):
    """Precomputed region features, passed on as they are.

    Args:
        width: of the features, checked at every batch.
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


class PixelNormalization(nn.Module):
    """RGB bytes → the floats that a trunk was trained on: ``(pixel / scale − mean) / std``.

    Args:
        mean, std: per channel, in the trunk's channel order.
        scale: 255 for trunks that see 0–1, 1 for those that see 0–255.
        bgr: the trunk wants blue first.
    """

    def __init__(
        self,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
        *,
        scale: float = 255.0,
        bgr: bool = False,
    ) -> None:
        super().__init__()
        self.bgr = bgr
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", scale * torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", scale * torch.tensor(std).view(3, 1, 1), persistent=False)

    def forward(self, pixels: UInt8[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch 3 height width"]:
        if self.bgr:
            pixels = pixels.flip(1)
        return (pixels.to(self.mean.dtype) - self.mean) / self.std


def caffe_pixels() -> PixelNormalization:
    """What Caffe detectors see: BGR, 0–255, minus the mean."""
    return PixelNormalization((102.9801, 115.9465, 122.7717), (1.0, 1.0, 1.0), scale=1.0, bgr=True)


class Grid(nn.Module):
    """A convolutional trunk up to its last stage; its H·W cells are the set.

    Args:
        trunk: normalised pixels → map (B, C, H, W).
        normalization: bytes → normalised pixels.
        frozen_statistics: keep every BatchNorm of the trunk in eval mode, for trunks trained elsewhere.
        cells: average-pool the map to this many cells a side; None keeps the trunk's own.
    """

    def __init__(
        self,
        trunk: nn.Module,
        normalization: PixelNormalization,
        *,
        frozen_statistics: bool = True,
        cells: int | None = None,
    ) -> None:
        super().__init__()
        self.trunk = trunk
        self.normalization = normalization
        self.frozen_statistics = frozen_statistics
        self.cells = cells

    def forward(self, pixels: UInt8[Tensor, "batch 3 height width"]) -> Features:
        grid = self.trunk(self.normalization(pixels))
        if self.cells is not None:
            grid = nn.functional.adaptive_avg_pool2d(grid, self.cells)
        values = grid.flatten(2).transpose(1, 2)
        return Features(values, torch.full((len(values),), values.shape[1], device=values.device))

    def train(self, mode: bool = True) -> "Grid":
        super().train(mode)
        if self.frozen_statistics:
            for module in self.trunk.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()
        return self


class ResNetTrunk(nn.Sequential):
    """torchvision's ResNet without its classifier, under the names of its parameters.

    Args:
        network: as torchvision builds it.
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
    """Fill the trunk from the detector's file, every weight accounted for."""
    state = _read_state(path)
    if set(state) != {"base", "top"}:
        raise VSEError(f"{path}: holds {sorted(state)[:3]}, expected 'base' and 'top' of original_updown_backbone.pth")
    base = ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3")
    renamed = {f"layer4.{name.split('.', 1)[1]}": value for name, value in state["top"].items()}
    for name, value in state["base"].items():
        index, rest = name.split(".", 1)
        renamed[f"{base[int(index)]}.{rest}"] = value
    _load_all(trunk, renamed, path)


def imagenet_resnet152_grid(
    pretrained: bool = True, weights: str | None = None, released_strides: bool = False
) -> Grid:
    """ResNet-152 trained on ImageNet.

    Args:
        pretrained: fetch torchvision's IMAGENET1K_V1 weights.
        weights: a local file of those weights instead.
        released_strides: the released program ran these weights in the Caffe form, an oversight that its numbers carry.
    """
    fetched = resnet.ResNet152_Weights.IMAGENET1K_V1 if pretrained and weights is None else None
    network = resnet.resnet152(weights=fetched)
    if weights is not None:
        _load_all(network, _read_state(weights), weights)
    return Grid(ResNetTrunk(network, caffe=released_strides), PixelNormalization())


def timm_grid(
    name: str,
    *,
    width: int | None = None,
    pretrained: bool = True,
    weights: str | None = None,
    cells: int | None = None,
) -> Grid:
    """Any convolutional model of timm, with the mean and standard deviation it was trained on.

    Args:
        name: timm's name, with its tag where weights are fetched.
        width: that its features must have; None takes any.
        pretrained: fetch timm's weights from the hub.
        weights: a local file (.safetensors or .pth) under timm's names, instead of the hub.
        cells: average-pool to this many cells a side.

    Raises:
        VSEError: if timm has no such model (the nearest names are listed), or its features have another width.
    """
    if not timm.is_model(name):
        near = get_close_matches(name.split(".", maxsplit=1)[0], timm.list_models(), n=3)
        raise VSEError(f"timm has no model {name!r}; the nearest are {', '.join(near) or 'none'}")
    network = timm.create_model(name, pretrained=pretrained and weights is None, num_classes=0, global_pool="")
    if width is not None and network.num_features != width:
        raise VSEError(
            f"{name} gives features {network.num_features} wide, backbone.width is {width}; "
            f"set backbone.width={network.num_features}"
        )
    if weights is not None:
        state = {key: value for key, value in _read_state(weights).items() if not key.startswith("classifier.")}
        _load_all(network, state, weights)
    settings: Any = network.pretrained_cfg
    return Grid(network, PixelNormalization(settings["mean"], settings["std"]), cells=cells)


def small_grid(width: int = 128) -> Grid:
    """A small trunk to train from scratch on small pictures: one cell for every 8×8 pixels.

    Args:
        width: of the features.
    """
    half = width // 2
    trunk = nn.Sequential(
        _convolution(3, half, kernel=6, stride=4),
        _Residual(_convolution(half, half)),
        Coordinates(),
        _convolution(half + 2, width, stride=2),
        _Residual(_convolution(width, width)),
        _Residual(_convolution(width, width)),
    )
    # a sixth faster on a CPU, and cells come out contiguous
    return Grid(trunk.to(memory_format=torch.channels_last), PixelNormalization(), frozen_statistics=False)


class Coordinates(nn.Module):
    """Adds two channels that tell every cell where it lies, −1 to 1 (Liu et al. 2018, "CoordConv").

    A pooled set of cells has no order; without these a picture and its mirror image would be nearly the same.
    """

    def forward(
        self, grid: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch channels_and_2 height width"]:
        batch, _, height, width = grid.shape
        down, across = (torch.linspace(-1, 1, steps).to(grid) for steps in (height, width))
        places = torch.stack([across.expand(height, -1), down[:, None].expand(-1, width)])
        return torch.cat([grid, places.expand(batch, -1, -1, -1)], dim=1)


def _convolution(inputs: int, outputs: int, *, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    """Convolution, BatchNorm and ReLU; the map shrinks by the stride exactly."""
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


def _read_state(path: str) -> dict[str, Any]:
    """Tensors of a weights file; pickles are read without running their code."""
    try:
        if Path(path).suffix == ".safetensors":
            return load_file(path)
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, pickle.UnpicklingError, SafetensorError) as error:
        raise VSEError(f"{path}: cannot be read as weights ({str(error).splitlines()[0]})") from error
    return state


def _load_all(network: nn.Module, state: dict[str, Tensor], path: str) -> None:
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        detail = " ".join(str(error).split())
        raise VSEError(f"{path}: weights of another network: {detail[:300]}") from error
