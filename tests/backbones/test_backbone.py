"""Layers from the input up: every parameter in one of them."""

import torch
from torch import nn

from vse_gpo.backbones.backbone import Backbone, Layers, child_layers


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


def test_a_backbone_of_no_files_is_built_again_from_its_settings():
    backbone = Wrapped()
    assert backbone.architecture({"width": 3}) == {"width": 3}
    assert backbone.compilable() is None
