"""Weights are written as they are, and those of another network refused."""

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from vse_gpo.errors import VSEError
from vse_gpo.storage.weights import check_file, check_values, check_weights, read_whole_weights, write_weights


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


def test_a_flipped_bit_is_found(tmp_path):
    write_weights(nn.Linear(4, 3), tmp_path / "w.safetensors")
    assert read_whole_weights(tmp_path / "w.safetensors").keys() == {"weight", "bias"}
    content = bytearray((tmp_path / "w.safetensors").read_bytes())
    content[-3] ^= 1
    (tmp_path / "w.safetensors").write_bytes(content)
    with pytest.raises(VSEError, match="do not have the hash that they were saved with; fetch it again"):
        read_whole_weights(tmp_path / "w.safetensors")


def test_broken_weights_are_not_written(tmp_path):
    layer = nn.Linear(2, 2)
    layer.weight.data.fill_(torch.nan)
    with pytest.raises(VSEError, match="weights with NaN or infinity: 1 of 2, first weight"):
        write_weights(layer, tmp_path / "layer.safetensors")
    assert not any(tmp_path.iterdir())


def test_a_flipped_bit_in_what_torch_saves_is_found(tmp_path):
    torch.save({"a": torch.ones(100, 100)}, tmp_path / "w.pth")
    check_file(tmp_path / "w.pth")
    content = bytearray((tmp_path / "w.pth").read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "w.pth").write_bytes(content)
    with pytest.raises(RuntimeError, match="does not have its checksum"):
        check_file(tmp_path / "w.pth")


def test_weights_of_earlier_versions_have_no_hash(tmp_path):
    save_file({"a": torch.ones(2)}, tmp_path / "old.safetensors")
    assert torch.equal(read_whole_weights(tmp_path / "old.safetensors")["a"], torch.ones(2))


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"a": torch.tensor([[1.0, torch.nan]]), "b": torch.ones(2)}, "weights with NaN or infinity: 1 of 2, first a"),
        ({"a": torch.zeros(2, 2), "b": torch.ones(2)}, "all 1 matrices are zero"),
        ({"a": torch.full((2, 2), torch.nan).to(torch.float8_e4m3fn)}, "weights with NaN or infinity: 1 of 1, first a"),
        ({"a": torch.zeros(2, 2).to(torch.float8_e5m2)}, "all 1 matrices are zero"),
        ({"a": torch.full((2, 2), complex(0, torch.inf))}, "weights with NaN or infinity"),
    ],
)
def test_weights_that_no_training_ends_with_are_refused(weights, message):
    with pytest.raises(VSEError, match=message):
        check_values(weights)
    check_values({"a": torch.eye(2), "zero gate": torch.zeros(1, 1), "count": torch.tensor(0)})
