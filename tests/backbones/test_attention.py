"""Masks that nobody reads."""

import pytest
import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import BertModel

from tests.helpers.far_device import FAR, waits_noted
from tests.helpers.tiny_encoders import FAMILIES
from vse_gpo.backbones.attention import AS_GIVEN, take_masks_as_given
from vse_gpo.backbones.texts import bert_of
from vse_gpo.batch import Tokens, to_device, valid_items

CAPTIONS = [torch.tensor([0, 7, 8, 9, 2]), torch.tensor([0, 5, 2]), torch.tensor([0, 3, 4, 2]), torch.tensor([0, 6, 2])]
TOKENS = Tokens(pad_sequence(CAPTIONS, batch_first=True), torch.tensor([len(caption) for caption in CAPTIONS]))


WAITS = {"mpnet": 1}  # its attention is its own, and its mask is read


@pytest.mark.parametrize("family", FAMILIES)
def test_no_mask_is_read_back_and_the_features_are_the_same(family):
    torch.manual_seed(0)
    backbone = bert_of(FAMILIES[family].to_dict()).eval()  # as a whole, as on a GPU
    expected = backbone(TOKENS).values
    with waits_noted() as waits:
        backbone.to(FAR)
        tokens = to_device(TOKENS, FAR)
        waits.clear()
        values = backbone(tokens).values
        assert len(waits) == WAITS.get(family, 0), waits
        words = valid_items(TOKENS.lengths, TOKENS.ids.shape[1])
        torch.testing.assert_close(values.cpu()[words], expected[words])


@pytest.mark.parametrize("mask", [None, torch.tensor([[1, 1, 1], [1, 1, 0]])], ids=["no mask", "mask"])
def test_attention_is_that_of_transformers(mask):
    torch.manual_seed(0)
    words = torch.randn(2, 3, 8)
    network = bert_of(FAMILIES["bert"].to_dict()).network.eval()
    assert network.config._attn_implementation == AS_GIVEN
    found = network(inputs_embeds=words, attention_mask=mask).last_hidden_state
    network.set_attn_implementation("sdpa")
    assert torch.equal(found, network(inputs_embeds=words, attention_mask=mask).last_hidden_state)


def test_attention_of_another_kind_is_left_as_it_is():
    network = BertModel(FAMILIES["bert"], add_pooling_layer=False)
    network.set_attn_implementation("eager")
    take_masks_as_given(network)
    assert network.config._attn_implementation == "eager"
