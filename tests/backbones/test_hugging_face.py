"""Networks of transformers: built from configs, layer by layer, quietly."""

import pytest
from torch import nn
from transformers import AlbertConfig
from transformers.utils import logging

from tests.helpers.tiny_encoders import FAMILIES
from vse_gpo.backbones.backbone import Layers
from vse_gpo.backbones.hugging_face import config_of, network_of, quietly, transformer_layers
from vse_gpo.backbones.texts import bert_of
from vse_gpo.errors import VSEError


def test_a_network_is_built_again_from_its_config():
    network = network_of(FAMILIES["bert"].to_dict())
    config = config_of(network)
    assert not {"_name_or_path", "transformers_version"} & config.keys()
    shapes = {name: value.shape for name, value in network.state_dict().items()}
    assert {name: value.shape for name, value in network_of(config).state_dict().items()} == shapes


@pytest.mark.parametrize("config", [{}, {"model_type": "no such model"}])
def test_a_config_of_nothing_is_refused(config):
    with pytest.raises(VSEError, match=r"not a network: .*expected a Hugging Face config"):
        network_of(config)


def test_layers_that_are_shared_are_told():
    albert = AlbertConfig(vocab_size=9, hidden_size=8, num_hidden_layers=3, num_attention_heads=2, intermediate_size=8)
    with pytest.raises(VSEError, match=r"albert: no stack of 3 layers.*set optimizer\.layer_decay=1\.0"):
        bert_of(albert.to_dict()).layers()


def names(network: nn.Module, layers: Layers) -> list[list[str]]:
    of = {parameter: name for name, parameter in network.named_parameters()}
    return [[of[parameter] for parameter in layer] for layer in layers]


@pytest.mark.parametrize("config", FAMILIES.values(), ids=FAMILIES)
def test_every_parameter_of_a_transformer_is_in_one_layer(config):
    network = network_of(config.to_dict())
    layers = names(network, transformer_layers(network))
    assert len(layers) == 1 + config.num_hidden_layers
    assert sorted(name for layer in layers for name in layer) == sorted(name for name, _ in network.named_parameters())


def test_a_library_is_quiet_only_inside():
    before = logging.get_verbosity(), logging.is_progress_bar_enabled()
    with quietly():
        assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == (logging.ERROR, False)
    assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == before
