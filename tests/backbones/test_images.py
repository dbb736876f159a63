from urllib.error import URLError

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from safetensors.torch import save_file
from torch import nn
from torchvision.models import resnet

from tests.golden import FOLDER, load
from vse_gpo.backbones.images import Regions, ResNetTrunk, butd_grid, imagenet_resnet152_grid, imagenet_resnet_grid
from vse_gpo.backbones.timm_trunks import timm_grid
from vse_gpo.batch import Features
from vse_gpo.cli.folders import config_folder
from vse_gpo.errors import VSEError


def weights_by_rule(names: list[str], shapes: dict[str, torch.Size], seed: int) -> dict[str, torch.Tensor]:
    """See golden/README.md: butd_resnet101."""
    state = {}
    for i, name in enumerate(names):
        if name.endswith("num_batches_tracked"):
            state[name] = torch.zeros((), dtype=torch.long)
            continue
        draw = np.random.default_rng([seed, i]).standard_normal(tuple(shapes[name])).astype(np.float32)
        if draw.ndim == 4:
            draw *= np.float32(np.sqrt(2 / np.prod(draw.shape[1:])))
        elif name.endswith("running_var"):
            draw = 1 + np.float32(0.1) * abs(draw)
        elif name.endswith(("running_mean", "bias")):
            draw *= np.float32(0.05)
        elif "bn3" in name:
            draw = np.float32(0.3) + np.float32(0.05) * draw
        elif draw.ndim == 1:
            draw = 1 + np.float32(0.05) * draw
        else:
            draw *= np.float32(0.02)
        state[name] = torch.from_numpy(draw)
    return state


@pytest.fixture(scope="module")
def detector_state() -> dict[str, torch.Tensor]:
    names = np.load(FOLDER / "butd_resnet101.npz", allow_pickle=False)["parameter_names"].tolist()
    with torch.device("meta"):
        shapes = {name: value.shape for name, value in resnet.resnet101().state_dict().items()}
    return weights_by_rule(names, shapes, int(load("butd_resnet101")["seed"]))


def test_caffe_resnet101_equals_the_released_program(detector_state):
    golden = load("butd_resnet101")
    trunk = ResNetTrunk(resnet.resnet101(), caffe=True).eval()
    trunk.load_state_dict({name: value for name, value in detector_state.items() if not name.startswith("fc.")})
    with torch.inference_mode():
        features = trunk(golden["image"]).flatten(2).transpose(1, 2)
    scale = golden["features"].abs().max()
    assert (features - golden["features"]).abs().max() <= 1e-4 * scale


def test_the_detectors_weights_file_fills_every_layer(detector_state, tmp_path):
    children = ["conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3"]
    base, top = {}, {}
    for name, value in detector_state.items():
        child, rest = name.split(".", 1)
        if child in children:
            base[f"{children.index(child)}.{rest}"] = value
        elif child == "layer4":
            top[f"0.{rest}"] = value
    torch.save({"base": base, "top": top}, tmp_path / "original_updown_backbone.pth")
    state = butd_grid(str(tmp_path / "original_updown_backbone.pth")).trunk.state_dict()
    assert all(torch.equal(value, detector_state[name]) for name, value in state.items())

    torch.save({"base": base}, tmp_path / "half.pth")
    with pytest.raises(VSEError, match="expected 'base' and 'top'"):
        butd_grid(str(tmp_path / "half.pth"))
    torch.save({"base": base, "top": {}}, tmp_path / "empty.pth")
    with pytest.raises(VSEError, match="weights of another network"):
        butd_grid(str(tmp_path / "empty.pth"))


def test_strides_lie_where_the_form_says():
    with torch.device("meta"):
        caffe = ResNetTrunk(resnet.resnet101(), caffe=True)
        proper = ResNetTrunk(resnet.resnet101(), caffe=False)
    assert [caffe.layer2[0].conv1.stride, caffe.layer2[0].conv2.stride] == [(2, 2), (1, 1)]
    assert [proper.layer2[0].conv1.stride, proper.layer2[0].conv2.stride] == [(1, 1), (2, 2)]
    assert caffe.maxpool.ceil_mode
    assert not proper.maxpool.ceil_mode


@pytest.mark.parametrize(("depth", "blocks"), [(50, [3, 4, 6, 3]), (101, [3, 4, 23, 3]), (152, [3, 8, 36, 3])])
@pytest.mark.parametrize("released", [True, False])
def test_imagenet_resnets_take_the_strides_of_caffe_only_when_asked(depth, blocks, released):
    """One layer of a stage has a stride of 2 beside the shortcut: in Caffe the first 1×1, in torchvision the 3×3."""
    with initialize_config_dir(config_folder(), version_base="1.3"), torch.device("meta"):
        overrides = [f"backbone=imagenet_res{depth}_grid", "backbone.network.pretrained=false"]
        config = compose("train", ["~experiment", *overrides, f"backbone.network.released_strides={released}"])
        trunk = instantiate(config.backbone.network).trunk
    assert [len(stage) for stage in (trunk.layer1, trunk.layer2, trunk.layer3, trunk.layer4)] == blocks
    layers = [(name, part) for name, part in trunk.named_modules() if isinstance(part, nn.Conv2d | nn.MaxPool2d)]
    strided = [name for name, layer in layers if layer.stride in (2, (2, 2))]
    place = "conv1" if released else "conv2"
    inner = [f"layer{stage}.0.{name}" for stage in (2, 3, 4) for name in (place, "downsample.0")]
    assert strided == ["conv1", "maxpool", *inner]
    assert (trunk.maxpool.padding, trunk.maxpool.ceil_mode) == ((0, True) if released else (1, False))


class CaffeBottleneck(resnet.Bottleneck):
    """As Caffe's prototxt builds it, without torchvision's strides."""

    def __init__(
        self, inplanes: int, planes: int, stride: int = 1, downsample: nn.Module | None = None, *_: object, **__: object
    ) -> None:
        super().__init__(inplanes, planes, 1, downsample)
        self.conv1 = nn.Conv2d(inplanes, planes, 1, stride=stride, bias=False)


def test_a_caffe_resnet_equals_a_plain_one():
    torch.manual_seed(0)
    grid = imagenet_resnet_grid(50, pretrained=False, released_strides=True).eval()
    plain = resnet.ResNet(CaffeBottleneck, [3, 4, 6, 3]).eval()
    plain.maxpool = nn.MaxPool2d(3, 2, ceil_mode=True)
    weights = weights_by_rule([*plain.state_dict()], {name: w.shape for name, w in plain.state_dict().items()}, 0)
    plain.load_state_dict(weights)
    plain.avgpool = plain.fc = nn.Identity()
    grid.trunk.load_state_dict({name: value for name, value in weights.items() if not name.startswith("fc.")})
    pixels = torch.randint(256, (2, 3, 70, 90), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    with torch.inference_mode():
        found = grid(pixels).values.transpose(1, 2)
        expected = plain((pixels / 255 - mean[:, None, None]) / std[:, None, None]).unflatten(1, (2048, -1))
    assert found.shape == (2, 2048, 3 * 3)
    assert (found - expected).abs().max() <= 1e-5 * expected.abs().max()


def test_an_older_name_of_resnet152_stays():
    with torch.device("meta"):
        grid = imagenet_resnet152_grid(pretrained=False, released_strides=True)
    assert grid.trunk.layer3[0].conv1.stride == (2, 2)
    assert len(grid.trunk.layer3) == 36


def test_other_depths_are_refused():
    with pytest.raises(VSEError, match=r"backbone\.network\.depth=18, expected one of 50, 101, 152"):
        imagenet_resnet_grid(18, pretrained=False)


def test_timm_trunks_bring_their_own_mean_and_weights_from_a_file(tmp_path):
    grid = timm_grid("tf_efficientnet_lite0", pretrained=False)
    assert grid.normalization.mean.flatten().tolist() == [127.5] * 3
    path = tmp_path / "weights.safetensors"
    state = {name: value.contiguous() for name, value in grid.trunk.state_dict().items()}
    save_file(state | {"classifier.weight": torch.zeros(1)}, path)
    again = timm_grid("tf_efficientnet_lite0", weights=str(path)).trunk.state_dict()
    assert all(torch.equal(value, again[name]) for name, value in grid.trunk.state_dict().items())


def test_bad_trunks_and_weights_are_refused_in_one_line(tmp_path):
    with pytest.raises(VSEError, match=r"no model 'resnet51'.*resnet50"):
        timm_grid("resnet51", pretrained=False)
    with pytest.raises(VSEError, match=r"512 wide, backbone\.width is 2048; set backbone\.width=512"):
        timm_grid("resnet18", width=2048, pretrained=False)
    truncated = tmp_path / "weights.pth"
    truncated.write_bytes(b"PK\x03\x04")
    with pytest.raises(VSEError, match="cannot be read as weights"):
        timm_grid("resnet18", weights=str(truncated))
    save_file({"conv1.weight": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(VSEError, match="weights of another network"):
        timm_grid("resnet18", weights=str(tmp_path / "other.safetensors"))


def test_regions_of_another_width_are_refused():
    with pytest.raises(VSEError, match="8 wide, the backbone expects 2048"):
        Regions(2048)(Features(torch.zeros(1, 2, 8), torch.tensor([2])))


def test_weights_that_cannot_be_fetched_are_told_in_one_line(monkeypatch):
    def no_network(weights: object) -> None:
        raise URLError("connection refused")

    monkeypatch.setattr(resnet, "resnet152", no_network)
    with pytest.raises(VSEError, match=r"connection refused.*set backbone\.network\.weights"):
        imagenet_resnet152_grid()
