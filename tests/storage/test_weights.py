"""Weights are written as they are, and those of another network refused."""

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from vse_gpo.errors import VSEError
from vse_gpo.storage.weights import check_weights, write_weights


def test_weights_come_back_whatever_their_layout_in_memory(tmp_path):
    layer = nn.Linear(2, 3)
    layer.weight = nn.Parameter(torch.randn(2, 3).T)
    write_weights(layer, tmp_path / "layer.safetensors")
    found = load_file(tmp_path / "layer.safetensors")
    assert found.keys() == layer.state_dict().keys()
    assert all(torch.equal(found[name], weight) for name, weight in layer.state_dict().items())


@pytest.mark.parametrize(
    ("found", "differing", "first"),
    [
        ({"a": 1}, 1, "b"),
        ({"a": 1, "b": 2, "c": 3}, 1, "c"),
        ({"a": 1, "b": 3}, 1, "b"),
        ({"c": 1}, 3, "a"),
    ],
)
def test_weights_that_are_missing_extra_or_of_another_shape_are_refused(found, differing, first):
    expected = {"a": torch.zeros(1), "b": torch.zeros(2)}
    check_weights({name: torch.ones(len(weight)) for name, weight in expected.items()}, expected)
    with pytest.raises(VSEError, match=f"another model: {differing} of 2 are missing, .* first {first};"):
        check_weights({name: torch.zeros(size) for name, size in found.items()}, expected)
