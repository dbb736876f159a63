"""Gradient checkpointing: the same gradients as without, from fewer activations, and a line where there is none."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from torchvision.models import resnet

from tests.helpers.tiny_encoders import FAMILIES, WORDS, clip_folder
from vse_gpo.backbones.backbone import Backbone
from vse_gpo.backbones.bigru import BiGRU
from vse_gpo.backbones.clip import clip_images, clip_texts
from vse_gpo.backbones.grid import Grid, PixelNormalization
from vse_gpo.backbones.images import Regions, ResNetTrunk
from vse_gpo.backbones.small import small_grid
from vse_gpo.backbones.texts import bert_of
from vse_gpo.backbones.timm_trunks import timm_grid
from vse_gpo.batch import Tokens
from vse_gpo.errors import VSEError
from vse_gpo.training.phases import Phase, freeze

TRUNKS = ["test_resnet", "test_efficientnet", "test_convnext", "test_vit", "swiftformer_xs"]
SWITCHED = [name for name in FAMILIES if name != "mpnet"]


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    return clip_folder(tmp_path_factory.mktemp("clip"))


def pixels(side: int = 64) -> Tensor:
    return torch.randint(256, (2, 3, side, side), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


def tokens() -> Tokens:
    ids = torch.randint(1, WORDS, (3, 9), generator=torch.Generator().manual_seed(0))
    return Tokens(ids, torch.tensor([9, 6, 3]))


def step(backbone: Backbone, inputs: Tensor | Tokens) -> tuple[dict[str, Tensor], int, float]:
    """Gradients, bytes kept for them, and what the random generator gives next."""
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    backbone.zero_grad()
    torch.manual_seed(5)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        values = backbone(inputs).values
    values.square().sum().backward()
    gradients = {name: value.grad.clone() for name, value in backbone.named_parameters() if value.grad is not None}
    return gradients, sum(kept.values()), float(torch.rand(1))


def assert_same(make: Callable[[], Backbone], inputs: Tensor | Tokens, setting: str) -> None:
    torch.manual_seed(0)
    backbone = make().train()
    expected, most, draw = step(backbone, inputs)
    backbone.enable_checkpointing(setting)
    found, kept, after = step(backbone, inputs)
    assert found.keys() == expected.keys()
    assert any(value.abs().max() > 1e-3 for value in expected.values())
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-6, atol=1e-6)
    assert kept < most
    assert after == draw


@pytest.mark.parametrize("name", TRUNKS)
def test_a_trunk_of_timm_has_the_same_gradients(name):
    assert_same(lambda: timm_grid(name, pretrained=False, size=64), pixels(), "backbone.checkpointing")


def test_dropout_draws_the_same_twice():
    def make() -> Backbone:
        backbone = timm_grid("test_vit", pretrained=False, size=64)
        for part in backbone.modules():
            if isinstance(part, nn.Dropout):
                part.p = 0.3
        return backbone

    assert_same(make, pixels(), "backbone.checkpointing")


def test_a_checkpointed_trunk_may_be_checkpointed_as_a_whole_too():
    """As micro-batches do, whose parts are encoded twice."""
    torch.manual_seed(0)
    backbone = timm_grid("test_resnet", pretrained=False, size=64)
    expected, *_ = step(backbone, pixels())
    backbone.enable_checkpointing("backbone.checkpointing")
    backbone.zero_grad()
    checkpoint(backbone, pixels(), use_reentrant=False).values.square().sum().backward()
    for name, value in backbone.named_parameters():
        torch.testing.assert_close(value.grad, expected[name], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("trunk", ["frozen", 1])
def test_a_frozen_trunk_trains_no_more_than_without(trunk):
    torch.manual_seed(0)
    backbone = timm_grid("test_resnet", pretrained=False, size=64)
    freeze(backbone, Phase(from_epoch=0, negatives="all", trunk=trunk))
    head = nn.Linear(backbone(pixels()).values.shape[-1], 4)
    found = []
    for turn in range(2):
        if turn:
            backbone.enable_checkpointing("backbone.checkpointing")
        backbone.zero_grad()
        head.zero_grad()
        head(backbone(pixels()).values).square().sum().backward()
        found.append([value.grad for value in [*backbone.parameters(), *head.parameters()]])
    for one, other in zip(*found, strict=True):
        assert (one is None) == (other is None)
        assert one is None or torch.allclose(one, other, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("family", SWITCHED)
def test_a_text_encoder_has_the_same_gradients_and_draws(family, caplog):
    """Its dropout is on; a caption list is split by length."""
    assert_same(lambda: bert_of(FAMILIES[family].to_dict(), groups=2), tokens(), "text.checkpointing")
    assert caplog.text == ""


def test_a_text_encoder_still_encodes_without_gradients():
    backbone = bert_of(FAMILIES["bert"].to_dict()).eval()
    with torch.inference_mode():
        expected = backbone(tokens()).values
        backbone.enable_checkpointing("text.checkpointing")
        assert torch.equal(backbone(tokens()).values, expected)


def test_the_towers_of_clip_have_the_same_gradients(clip):
    assert_same(lambda: clip_images(str(clip), random_weights=True), pixels(32), "backbone.checkpointing")
    assert_same(lambda: clip_texts(str(clip), random_weights=True), tokens(), "text.checkpointing")


@pytest.mark.parametrize(
    ("make", "setting", "name"),
    [
        (lambda: Regions(4), "backbone.checkpointing", "Regions"),
        (lambda: small_grid(16), "backbone.checkpointing", "Grid"),
        (lambda: timm_grid("dla46_c", pretrained=False), "backbone.checkpointing", "DLA"),
        (
            lambda: Grid(ResNetTrunk(resnet.resnet18(), caffe=False), PixelNormalization()),
            "backbone.checkpointing",
            "Grid",
        ),
        (lambda: BiGRU(vocabulary_size=9, width=4), "text.checkpointing", "BiGRU"),
        (lambda: bert_of(FAMILIES["mpnet"].to_dict()), "text.checkpointing", "MPNetModel"),
    ],
)
def test_a_network_without_it_is_refused_in_one_line(make, setting, name):
    with pytest.raises(VSEError, match=rf"^{setting}=true: {name} has no gradient checkpointing; set [^\n]+$"):
        make().enable_checkpointing(setting)
