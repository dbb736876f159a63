"""What a model's weights look like before there is memory for them."""

import pytest
import torch

from tests.helpers.small_settings import SETTINGS
from vse_gpo.errors import VSEError
from vse_gpo.storage.outline import Unfilled, outline
from vse_gpo.storage.settings import build


def test_the_outline_has_the_weights_of_the_model_and_no_values():
    expected = build(SETTINGS).state_dict()
    found = outline(SETTINGS, None)
    assert {name: (weight.shape, weight.dtype) for name, weight in found.items()} == {
        name: (weight.shape, weight.dtype) for name, weight in expected.items()
    }
    assert all(weight.is_meta for weight in found.values())


def test_settings_of_no_model_give_one_line():
    broken = SETTINGS | {"image_encoder": SETTINGS["image_encoder"] | {"projection": {"_target_": "torch.nn.Linear"}}}
    with pytest.raises(VSEError, match=r"torch\.nn\.Linear: .*missing 2 required positional arguments"):
        outline(broken, None)
    wide = {"_target_": "torch.nn.Linear", "in_features": -1, "out_features": 2}
    with pytest.raises(VSEError, match=r"settings of no model .*negative dimension"):
        outline(SETTINGS | {"image_encoder": SETTINGS["image_encoder"] | {"projection": wide}}, None)


def test_nothing_is_drawn_inside_alone():
    weight = torch.zeros(3)
    with Unfilled():
        torch.nn.init.normal_(weight)
        torch.nn.init.kaiming_uniform_(weight[None])
        weight.normal_()
        assert not weight.any()
    assert torch.nn.init.ones_(weight).all()
