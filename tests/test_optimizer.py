import pytest
import timm.optim
import torch
from torch import nn

from tests.tiny_encoders import FAMILIES
from vse_gpo.backbones.images import Regions, timm_grid
from vse_gpo.backbones.texts import BiGRU, bert_of
from vse_gpo.encoder import Encoder
from vse_gpo.errors import VSEError
from vse_gpo.model import VSE
from vse_gpo.optimizer import parameter_groups
from vse_gpo.pooling import GPO, Mean


def model(image_backbone: nn.Module, text_backbone: nn.Module | None = None) -> VSE:
    text_backbone = nn.Linear(3, 4) if text_backbone is None else text_backbone
    return VSE(
        image_encoder=Encoder(backbone=image_backbone, projection=nn.Linear(4, 4), pooling=GPO()),
        text_encoder=Encoder(backbone=text_backbone, projection=nn.Identity(), pooling=Mean()),
        prepare_images=list,
        prepare_captions=list,
    )


def test_backbones_train_at_their_share_and_everything_is_in_one_group():
    vse = model(nn.Linear(2, 4))
    groups = parameter_groups(vse, lr=1.0, image_backbone_scale=0.01, text_backbone_scale=0.1)
    assert {group["name"]: group["lr"] for group in groups} == {
        "heads": 1.0,
        "image_backbone": pytest.approx(0.01),
        "text_backbone": pytest.approx(0.1),
    }
    assert set(groups[1]["params"]) == set(vse.image_encoder.backbone.parameters())
    everything = [parameter for group in groups for parameter in group["params"]]
    assert len(everything) == len(set(everything))
    assert set(everything) == set(vse.parameters())


def test_frozen_parameters_stay_in_their_group():
    vse = model(nn.Linear(2, 4))
    vse.image_encoder.backbone.requires_grad_(False)
    groups = parameter_groups(vse, lr=1.0, image_backbone_scale=0.01, text_backbone_scale=0.1)
    assert len(groups[1]["params"]) == 2


def test_a_backbone_without_parameters_has_no_group():
    groups = parameter_groups(model(nn.Identity()), lr=1.0, image_backbone_scale=1.0, text_backbone_scale=1.0)
    assert [group["name"] for group in groups] == ["heads", "text_backbone"]
    torch.optim.AdamW(groups)


# layer decay


def rates(vse: VSE, **settings: float) -> dict[str, float]:
    """The learning rate of every parameter, each in one group."""
    groups = parameter_groups(vse, **settings)
    names = {parameter: name for name, parameter in vse.named_parameters()}
    found = [(names[parameter], group["lr"]) for group in groups for parameter in group["params"]]
    assert len(found) == len(dict(found)) == len(names)
    assert len({group["name"] for group in groups}) == len(groups)
    return dict(found)


@pytest.mark.parametrize("name", ["test_vit", "test_convnext", "test_efficientnet"])
def test_a_trunks_layers_decay_as_timm_decays_them_once_more_below_the_heads(name):
    trunk = timm_grid(name, pretrained=False)
    vse = model(trunk, BiGRU(vocabulary_size=5, width=4))
    found = rates(vse, lr=2.0, image_backbone_scale=0.5, text_backbone_scale=1.0, layer_decay=0.7)
    names = {parameter: name for name, parameter in trunk.trunk.named_parameters()}
    for group in timm.optim.param_groups_layer_decay(trunk.trunk, layer_decay=0.7):
        for parameter in group["params"]:
            expected = 2.0 * 0.5 * group["lr_scale"] * 0.7
            assert found[f"image_encoder.backbone.trunk.{names[parameter]}"] == pytest.approx(expected)


def test_a_text_encoders_layers_decay_from_the_top():
    vse = model(Regions(4), bert_of(FAMILIES["bert"].to_dict()))
    found = rates(vse, lr=1.0, image_backbone_scale=1.0, text_backbone_scale=0.1, layer_decay=0.5)
    network = "text_encoder.backbone.network."
    for name, rate in found.items():
        expected = 1.0
        for depth, part in enumerate(("encoder.layer.1.", "encoder.layer.0.", "embeddings."), start=1):
            if name.startswith(network + part):
                expected = 0.1 * 0.5**depth
        assert rate == pytest.approx(expected), name
    assert sum(rate < 1 for rate in found.values()) == len(list(vse.text_encoder.backbone.parameters()))


def test_word_vectors_learn_slower_than_the_gru_over_them():
    vse = model(Regions(4), BiGRU(vocabulary_size=5, width=4))
    found = rates(vse, lr=1.0, image_backbone_scale=1.0, text_backbone_scale=1.0, layer_decay=0.5)
    assert found["text_encoder.backbone.embed.weight"] == 0.25
    assert found["text_encoder.backbone.rnn.weight_hh_l0"] == 0.5


def test_a_decay_of_one_changes_nothing():
    vse = model(timm_grid("test_vit", pretrained=False), BiGRU(vocabulary_size=5, width=4))
    settings = {"lr": 1.0, "image_backbone_scale": 0.01, "text_backbone_scale": 0.1}
    groups = parameter_groups(vse, **settings, layer_decay=1.0)
    assert [group["name"] for group in groups] == ["heads", "image_backbone", "text_backbone"]
    assert rates(vse, **settings) == rates(vse, **settings, layer_decay=1.0)


@pytest.mark.parametrize("decay", [0.0, -0.5, 1.5])
def test_a_decay_out_of_range_is_refused(decay):
    with pytest.raises(VSEError, match="more than 0 and at most 1"):
        parameter_groups(
            model(nn.Identity()), lr=1.0, image_backbone_scale=1.0, text_backbone_scale=1.0, layer_decay=decay
        )
