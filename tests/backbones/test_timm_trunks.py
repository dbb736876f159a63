"""Trunks of timm against timm's own forward pass: what becomes the set, at which sizes, and by which layers."""

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

from vse_gpo.backbones.grid import PixelNormalization
from vse_gpo.backbones.timm_trunks import TimmGrid, timm_grid
from vse_gpo.errors import VSEError
from vse_gpo.training.phases import Phase, freeze

TOKENS = {"test_vit": 1, "test_vit2": 1, "test_vit3": 1, "test_vit_relpos": 0}  # tokens that are no patches
MAPS = ["test_convnext", "test_efficientnet", "test_mambaout", "test_resnet", "swiftformer_xs"]
SIDE = 64


def pixels(side: int = SIDE) -> torch.Tensor:
    return torch.randint(256, (2, 3, side, side), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


def trunk(name: str, **settings) -> TimmGrid:
    torch.manual_seed(0)
    return timm_grid(name, pretrained=False, size=SIDE, **settings).eval()


@pytest.mark.parametrize(("name", "prefix"), TOKENS.items())
def test_patch_tokens_are_the_set(name, prefix):
    backbone = trunk(name)
    features = backbone(pixels())
    expected = backbone.trunk.fc_norm(backbone.trunk.forward_features(backbone.normalization(pixels())))
    assert expected.shape[1] == prefix + 16
    assert torch.equal(features.values, expected[:, prefix:])
    assert features.lengths.tolist() == [16, 16]


@pytest.mark.parametrize("name", MAPS)
def test_the_cells_of_a_map_are_the_set_wherever_its_channels_lie(name):
    backbone = trunk(name, width=timm.create_model(name, num_classes=0).head_hidden_size)
    found = backbone.trunk(backbone.normalization(pixels()))
    dim = backbone.trunk.head_hidden_size
    grid = found if found.shape[1] == dim else found.permute(0, 3, 1, 2)
    values = backbone(pixels()).values
    side = SIDE // 32
    assert values.shape == (2, side * side, dim)
    for row in range(side):
        for column in range(side):
            assert torch.equal(values[:, row * side + column], grid[:, :, row, column])


@pytest.mark.parametrize("name", [*TOKENS, *MAPS])
def test_every_parameter_of_a_trunk_trains(name):
    backbone = trunk(name).train()
    features = backbone(pixels())
    (features.values * torch.randn_like(features.values)).sum().backward()
    assert [name for name, parameter in backbone.named_parameters() if parameter.grad is None] == []


def test_the_class_token_comes_first_where_it_is_kept():
    kept, dropped = trunk("test_vit", class_token=True), trunk("test_vit")
    found = kept.trunk.forward_features(kept.normalization(pixels()))
    assert torch.equal(kept(pixels()).values, found)
    assert kept(pixels()).lengths.tolist() == [17, 17]
    assert torch.equal(dropped(pixels()).values, found[:, 1:])


@pytest.mark.parametrize("name", ["test_vit2", "test_resnet"])  # registers alone, and no tokens at all
def test_a_class_token_that_is_not_there_is_refused(name):
    with pytest.raises(VSEError, match=r"no class token; set backbone\.network\.class_token=false"):
        trunk(name, class_token=True)


def test_patch_tokens_are_averaged_in_their_places_and_the_class_token_is_not():
    whole, averaged = trunk("test_vit", class_token=True), trunk("test_vit", class_token=True, cells=2)
    tokens, values = whole(pixels()).values, averaged(pixels()).values
    assert values.shape == (2, 5, 64)
    assert torch.equal(values[:, 0], tokens[:, 0])
    patches = tokens[:, 1:].reshape(2, 4, 4, 64)
    for row in range(2):
        for column in range(2):
            quarter = patches[:, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2].mean((1, 2))
            torch.testing.assert_close(values[:, 1 + 2 * row + column], quarter)


class Odd(nn.Module):
    """Gives tokens of no square grid."""

    def __init__(self, tokens: int) -> None:
        super().__init__()
        self.tokens = tokens

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.new_zeros(len(images), self.tokens, 4)


@pytest.mark.parametrize("tokens", [1, 7])
def test_tokens_without_places_are_refused(tokens):
    backbone = TimmGrid(Odd(tokens), PixelNormalization(), cells=None, class_token=False)
    with pytest.raises(VSEError, match="Odd gives neither one map nor the tokens of a square grid"):
        backbone(pixels())


def test_weights_of_another_size_are_resized_and_every_one_is_needed(tmp_path):
    path = str(tmp_path / "vit.safetensors")
    torch.manual_seed(1)
    whole = timm.create_model("test_vit")  # with its classifier, built for 160×160 pixels
    save_file(whole.state_dict(), path)
    backbone = timm_grid("test_vit", size=SIDE, weights=path)
    state = backbone.trunk.state_dict()
    assert torch.equal(state["blocks.5.mlp.fc1.weight"], whole.blocks[5].mlp.fc1.weight)
    assert state["pos_embed"].shape == (1, 17, 64)
    assert torch.equal(state["pos_embed"][:, :1], whole.pos_embed[:, :1])
    assert "state_dict" not in backbone.trunk.pretrained_cfg
    save_file({name: value for name, value in whole.state_dict().items() if name != "norm.bias"}, path)
    with pytest.raises(VSEError, match=r"weights of another network: .*norm\.bias"):
        timm_grid("test_vit", weights=path)


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("test_vlt", {}, r"no model 'test_vlt'; the nearest are test_vit"),
        ("resnet18.nothing", {}, r"Invalid pretrained tag \(nothing\) for resnet18. timm has .*resnet18\.a1_in1k"),
        ("test_vit", {"width": 768}, r"64 wide, backbone\.width is 768; set backbone\.width=64"),
        ("test_maxvit", {"size": 80}, r"cannot build test_maxvit without its pooling for 80×80 pixels"),
        ("crossvit_tiny_240", {}, "cannot build crossvit_tiny_240 without its pooling"),
    ],
)
def test_what_timm_cannot_build_gives_one_line(name, settings, message):
    with pytest.raises(VSEError, match=message) as error:
        timm_grid(name, pretrained=False, **settings)
    assert "\n" not in str(error.value)


def names(backbone: TimmGrid, coarse: bool) -> list[set[str]]:
    of = {parameter: name for name, parameter in backbone.trunk.named_parameters()}
    return [{of[parameter] for parameter in layer} for layer in backbone.layers(coarse=coarse)]


def test_a_transformers_layers_are_its_blocks():
    backbone = trunk("test_vit")
    for coarse in (False, True):
        bottom, *blocks = names(backbone, coarse)
        assert {"cls_token", "pos_embed", "patch_embed.proj.weight"} <= bottom
        assert len(blocks) == 6
        for number, block in enumerate(blocks):
            assert all(name.startswith((f"blocks.{number}.", "norm.")) for name in block)


def test_a_convolutional_trunks_stages_hold_several_layers():
    backbone = trunk("test_convnext")
    fine, coarse = names(backbone, False), names(backbone, True)
    assert len(fine) > len(coarse)
    assert any(all(name.startswith("stages.3.") for name in layer) for layer in fine)
    everything = {name for name, _ in backbone.trunk.named_parameters()}
    for layers in (fine, coarse):
        assert set().union(*layers) == everything
        assert sum(map(len, layers)) == len(everything)


@pytest.mark.parametrize("name", ["test_convnext", "swiftformer_xs"])
def test_the_top_stage_is_more_than_the_norm_after_it(name):
    *_, top = names(trunk(name), coarse=True)
    assert any("norm" not in parameter for parameter in top)


@pytest.mark.parametrize("stages", ["frozen", 0, 2, 99, "trainable"])
def test_a_transformer_thaws_block_by_block_from_the_top(stages):
    backbone = trunk("test_vit")
    freeze(backbone, Phase(from_epoch=0, negatives="all", trunk=stages))
    thawed = {"frozen": 0, "trainable": 99}.get(stages, stages)
    for name, parameter in backbone.trunk.named_parameters():
        depth = int(name.split(".")[1]) + 1 if name.startswith("blocks.") else 6 if name.startswith("norm.") else 0
        assert parameter.requires_grad is (depth > 6 - thawed), name
