import pytest
import torch
from torch import nn

from vse_gpo.encoder import Encoder
from vse_gpo.model import VSE
from vse_gpo.optimizer import parameter_groups
from vse_gpo.pooling import GPO, Mean


def model(image_backbone: nn.Module) -> VSE:
    return VSE(
        image_encoder=Encoder(backbone=image_backbone, projection=nn.Linear(4, 4), pooling=GPO()),
        text_encoder=Encoder(backbone=nn.Linear(3, 4), projection=nn.Identity(), pooling=Mean()),
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
