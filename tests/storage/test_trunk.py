"""A trunk beside its features: written once, and never mixed with another."""

import pytest
import torch
from torch import nn

from tests.helpers.trunks import TRUNK, small_trunk
from vse_gpo.errors import VSEError
from vse_gpo.storage.settings import build
from vse_gpo.storage.trunk import keep_trunk, read_trunk


@pytest.fixture
def trunk() -> nn.Module:
    return small_trunk()


def test_a_second_start_takes_the_first_ones_weights(trunk, tmp_path):
    keep_trunk(tmp_path / "trunk", trunk, TRUNK)
    other = build(TRUNK["network"])
    keep_trunk(tmp_path / "trunk", other, TRUNK)
    for name, weight in trunk.state_dict().items():
        assert torch.equal(other.state_dict()[name], weight)


def test_features_of_another_trunk_are_not_mixed_in(trunk, tmp_path):
    keep_trunk(tmp_path / "trunk", trunk, TRUNK)
    larger = TRUNK | {"prepare": TRUNK["prepare"] | {"size": 64}}
    with pytest.raises(VSEError, match="holds features of another trunk or of other pixels; name a new folder"):
        keep_trunk(tmp_path / "trunk", trunk, larger)


def test_a_trunk_is_read_as_it_was_written(trunk, tmp_path):
    keep_trunk(tmp_path / "trunk", trunk, TRUNK)
    settings, weights = read_trunk(tmp_path / "trunk")
    assert settings == TRUNK
    assert all(torch.equal(weights[name], weight) for name, weight in trunk.state_dict().items())
    assert {path.name for path in (tmp_path / "trunk").iterdir()} == {"trunk.json", "trunk.safetensors"}


@pytest.mark.parametrize("content", [None, "", "{}", "[1]"])
def test_what_is_no_trunk_gives_one_line(content, trunk, tmp_path):
    keep_trunk(tmp_path / "trunk", trunk, TRUNK)
    file = tmp_path / "trunk" / "trunk.json"
    file.unlink() if content is None else file.write_text(content)
    with pytest.raises(VSEError, match=r"no trunk .*expected trunk\.json and trunk\.safetensors") as error:
        read_trunk(tmp_path / "trunk")
    assert "\n" not in str(error.value)
