"""Trunks beside their features: a model of features reads pictures as if their features had been written first."""

import pytest
import torch
from torch import nn

from tests.helpers.small_settings import SETTINGS as OF_PICTURES
from tests.helpers.trunks import TRUNK, small_trunk
from vse_gpo import VSE
from vse_gpo.checkpoints.trunk import with_trunk
from vse_gpo.errors import VSEError
from vse_gpo.model import build_model
from vse_gpo.storage.settings import build
from vse_gpo.storage.trunk import keep_trunk

PIXELS = list(torch.randint(0, 256, (3, 3, 40, 50), generator=torch.Generator().manual_seed(1), dtype=torch.uint8))


def model_of_features(width: int) -> VSE:
    torch.manual_seed(1)
    settings = OF_PICTURES | {"prepare_images": {"_target_": "vse_gpo.data.regions.PrepareRegions"}}
    settings["image_encoder"] = OF_PICTURES["image_encoder"] | {
        "backbone": {"_target_": "vse_gpo.backbones.images.Regions", "width": width},
        "projection": {"_target_": "vse_gpo.encoder.ResidualProjection", "in_features": width, "out_features": 6},
    }
    return build_model(settings, build(settings).state_dict())


@pytest.fixture
def trunk() -> nn.Module:
    return small_trunk()


def test_a_model_of_features_reads_pictures(trunk, tmp_path):
    keep_trunk(tmp_path / "trunk", trunk, TRUNK)
    before = model_of_features(8)
    after = with_trunk(before, tmp_path / "trunk")
    with torch.inference_mode():
        features = trunk(build(TRUNK["prepare"])(PIXELS)).values
    expected = before.encode_images(list(features))
    assert expected.std(0).max() > 0.01
    torch.testing.assert_close(after.encode_images(PIXELS), expected)
    captions = ["a red circle", "a heart"]
    assert torch.equal(after.encode_captions(captions), before.encode_captions(captions))
    after.save_pretrained(tmp_path / "model")
    assert torch.equal(VSE.from_pretrained(tmp_path / "model").encode_images(PIXELS), after.encode_images(PIXELS))


def test_a_trunk_must_fit_the_model(trunk, tmp_path):
    keep_trunk(tmp_path / "trunk", trunk, TRUNK)
    with pytest.raises(VSEError, match="its features are 8 wide, the model was trained on others 9 wide"):
        with_trunk(model_of_features(9), tmp_path / "trunk")
    with pytest.raises(VSEError, match="reads images already"):
        with_trunk(with_trunk(model_of_features(8), tmp_path / "trunk"), tmp_path / "trunk")
    with pytest.raises(VSEError, match=r"no trunk .*expected trunk\.json and trunk\.safetensors"):
        with_trunk(model_of_features(8), tmp_path)
