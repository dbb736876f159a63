"""Image backbones: pixels or region features → Features. CLIP's is in ``clip.py``."""

from torch import nn
from torchvision.models import get_weight, resnet

from vse_gpo.backbones.backbone import Backbone
from vse_gpo.backbones.grid import Grid, PixelNormalization, caffe_pixels
from vse_gpo.backbones.pretrained import load_weights, read_weights
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
