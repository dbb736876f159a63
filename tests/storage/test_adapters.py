"""Adapters in weights: merged by their formula, and found by their names only."""

import pytest
import torch
from torch import nn

from vse_gpo.errors import VSEError
from vse_gpo.storage.adapters import drop_adapters, merged_weights


def adapted_layer(width: int, out: int) -> nn.Module:
    """A linear layer with an adapter of rank 2, parts named as by peft."""
    layer = nn.Module()
    layer.base_layer = nn.Linear(width, out)
    layer.lora_A = nn.ModuleDict({"default": nn.Linear(width, 2, bias=False)})
    layer.lora_B = nn.ModuleDict({"default": nn.Linear(2, out, bias=False)})
    layer.register_buffer("lora_scale", torch.tensor(0.5))
    return layer


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.ModuleDict({"first": adapted_layer(4, 3), "block": nn.Sequential(nn.ReLU(), adapted_layer(3, 5))})


def test_an_update_is_added_number_by_number():
    weights = network().state_dict()
    plain = merged_weights(weights)
    assert list(plain) == [f"{layer}.{kind}" for layer in ("first", "block.1") for kind in ("weight", "bias")]
    down, up = weights["first.lora_A.default.weight"], weights["first.lora_B.default.weight"]
    for row in range(3):
        for column in range(4):
            update = sum(float(up[row, k]) * float(down[k, column]) for k in range(2))
            expected = float(weights["first.base_layer.weight"][row, column]) + 0.5 * update
            assert float(plain["first.weight"][row, column]) == pytest.approx(expected, abs=1e-6)
    assert torch.equal(plain["first.bias"], weights["first.base_layer.bias"])
    assert torch.equal(weights["first.base_layer.weight"], network().state_dict()["first.base_layer.weight"])


def test_weights_without_adapters_stay_as_they_are():
    weights = {"a.base_layer.weight": torch.ones(2, 2), "lora_scale": torch.ones(())}
    assert merged_weights(weights) == weights
    assert merged_weights({}) == {}


@pytest.mark.parametrize("change", ["missing", "shape"])
def test_an_adapter_of_another_layer_is_refused(change):
    weights = network().state_dict()
    if change == "missing":
        del weights["first.lora_A.default.weight"]
    else:
        weights["first.lora_A.default.weight"] = torch.ones(2, 7)
    with pytest.raises(VSEError, match=r"adapters of another model \("):
        merged_weights(weights)


def test_layers_come_back_in_their_places():
    module = network()
    merged = merged_weights(module.state_dict())
    base = module["block"][1].base_layer
    drop_adapters(module)
    assert module["block"][1] is base
    assert list(module.state_dict()) == list(merged)
