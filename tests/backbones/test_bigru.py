"""The BiGRU against the released program, and what it must not see."""

import pytest
import torch
from torch import nn
from transformers import PreTrainedConfig

from tests.golden import assert_close, load, under
from vse_gpo.backbones.bigru import BiGRU
from vse_gpo.backbones.texts import Bert, bert_of
from vse_gpo.batch import Tokens
from vse_gpo.checkpoints.released import bigru_names
from vse_gpo.encoder import Encoder
from vse_gpo.errors import VSEError
from vse_gpo.pooling import GPO


def test_bigru_encoder_equals_the_released_program():
    golden = load("bigru_text_encoder")
    backbone = BiGRU(vocabulary_size=60, width=16, word_width=12)
    encoder = Encoder(backbone=backbone, projection=nn.Identity(), pooling=GPO())
    encoder.load_state_dict(bigru_names(under(golden, "w/")))
    assert_close(encoder(Tokens(golden["token_ids"], golden["lengths"])), golden["embedding"])


def test_bigru_does_not_see_padding_and_keeps_the_callers_order():
    torch.manual_seed(0)
    backbone = BiGRU(vocabulary_size=9, width=4, word_width=3)
    short, long = torch.tensor([5, 6]), torch.tensor([1, 2, 3, 4])
    padded = Tokens(torch.tensor([[5, 6, 0, 0], [1, 2, 3, 4]]), torch.tensor([2, 4]))
    values = backbone(padded).values
    torch.testing.assert_close(values[0, :2], backbone(Tokens(short[None], torch.tensor([2]))).values[0])
    torch.testing.assert_close(values[1], backbone(Tokens(long[None], torch.tensor([4]))).values[0])


def test_a_gru_that_reads_forwards_alone_does_not_see_what_follows():
    backbone = BiGRU(vocabulary_size=9, width=4, word_width=3, bidirectional=False)
    short, long = (
        backbone(Tokens(torch.tensor([ids]), torch.tensor([len(ids)]))).values[0] for ids in ([5, 6], [5, 6, 7])
    )
    assert short.shape == (2, 4)
    torch.testing.assert_close(long[:2], short)
    torch.testing.assert_close(short, backbone.rnn(backbone.embed(torch.tensor([5, 6])))[0])


def test_word_vectors_start_within_a_tenth():
    weights = BiGRU(vocabulary_size=500, width=4).embed.weight
    assert weights.shape[1] == 300
    assert weights.min() >= -0.1
    assert weights.max() <= 0.1
    assert weights.std().item() == pytest.approx(0.2 / 12**0.5, rel=0.01)


def encoder(config: PreTrainedConfig, groups: int = 1) -> Bert:
    torch.manual_seed(0)
    return bert_of(config.to_dict(), groups=groups).eval()


def test_words_can_be_added_to_their_states():
    added = BiGRU(vocabulary_size=9, width=4, word_width=4, add_words=True)
    plain = BiGRU(vocabulary_size=9, width=4, word_width=4)
    plain.load_state_dict(added.state_dict())
    tokens = Tokens(torch.tensor([[5, 6, 0, 0], [1, 2, 3, 4]]), torch.tensor([2, 4]))
    torch.testing.assert_close(added(tokens).values - plain(tokens).values, plain.embed(tokens.ids))
    assert BiGRU(vocabulary_size=900, width=9, word_width=9, add_words=True).embed.weight.std().item() == pytest.approx(
        0.5, rel=0.05
    )


def test_words_of_another_width_than_their_states_are_not_added():
    with pytest.raises(VSEError, match=r"^text\.network\.add_words=true with word_width=3, expected the width, 4$"):
        BiGRU(vocabulary_size=9, width=4, word_width=3, add_words=True)
