"""Layers from the input up: every parameter in one of them."""

import pytest
import torch
from torch import nn
from transformers import AlbertConfig

from tests.helpers.tiny_encoders import FAMILIES
from vse_gpo.backbones.backbone import Backbone, Layers, child_layers, transformer_layers
from vse_gpo.backbones.pretrained import network_of
from vse_gpo.backbones.texts import bert_of
from vse_gpo.errors import VSEError


def test_layers_that_are_shared_are_told():
    albert = AlbertConfig(vocab_size=9, hidden_size=8, num_hidden_layers=3, num_attention_heads=2, intermediate_size=8)
    with pytest.raises(VSEError, match=r"albert: no stack of 3 layers.*set optimizer\.layer_decay=1\.0"):
        bert_of(albert.to_dict()).layers()


class Trunk(nn.Module):
    """A parameter of its own, a child without any, and two with some."""

    def __init__(self) -> None:
        super().__init__()
        self.position = nn.Parameter(torch.zeros(3))
        self.first, self.between, self.second = nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)


class Wrapped(Backbone):
    """A backbone around one trunk."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = Trunk()


def names(network: nn.Module, layers: Layers) -> list[list[str]]:
    of = {parameter: name for name, parameter in network.named_parameters()}
    return [[of[parameter] for parameter in layer] for layer in layers]


def test_children_are_layers_above_the_parameters_of_none():
    expected = [["position"], ["first.weight", "first.bias"], ["second.weight", "second.bias"]]
    trunk = Trunk()
    assert names(trunk, child_layers(trunk)) == expected
    backbone = Wrapped()
    for coarse in (False, True):
        assert names(backbone.trunk, backbone.layers(coarse=coarse)) == expected


@pytest.mark.parametrize("config", FAMILIES.values(), ids=FAMILIES)
def test_every_parameter_of_a_transformer_is_in_one_layer(config):
    network = network_of(config.to_dict())
    layers = names(network, transformer_layers(network))
    assert len(layers) == 1 + config.num_hidden_layers
    assert sorted(name for layer in layers for name in layer) == sorted(name for name, _ in network.named_parameters())


def test_a_backbone_of_no_files_is_built_again_from_its_settings():
    backbone = Wrapped()
    assert backbone.architecture({"width": 3}) == {"width": 3}
    assert backbone.compilable() is None
