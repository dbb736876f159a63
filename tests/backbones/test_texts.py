import json

import numpy as np
import pytest
import torch
from torch import nn
from transformers import BertConfig, BertModel

from tests.golden import FOLDER, assert_close, load, under
from vse_gpo.backbones.texts import Bert, BiGRU, load_bert
from vse_gpo.batch import Tokens
from vse_gpo.encoder import Encoder
from vse_gpo.errors import VSEError
from vse_gpo.pooling import GPO
from vse_gpo.released import bert_names, bigru_names


def golden_bert(groups: int) -> Encoder:
    config = json.loads(str(np.load(FOLDER / "bert_text_encoder.npz", allow_pickle=False)["config"]))
    network = BertModel(BertConfig(**config), add_pooling_layer=False)
    encoder = Encoder(backbone=Bert(network, groups), projection=nn.Linear(32, 16), pooling=GPO())
    encoder.load_state_dict(bert_names(under(load("bert_text_encoder"), "w/")))
    return encoder.eval()


@pytest.mark.parametrize("groups", [1, 2, 5, 8])
def test_bert_encoder_equals_the_released_program_however_it_is_split_by_length(groups):
    golden = load("bert_text_encoder")
    embedding = golden_bert(groups)(Tokens(golden["token_ids"], golden["lengths"]))
    assert_close(embedding, golden["embedding"])


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


def test_a_folder_gives_a_text_encoder_in_float32_without_its_pooler(tmp_path):
    config = BertConfig(vocab_size=30, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8)
    saved = BertModel(config).half()
    saved.save_pretrained(tmp_path)
    backbone = load_bert(str(tmp_path))
    parameters = dict(backbone.network.named_parameters())
    assert {parameter.dtype for parameter in parameters.values()} == {torch.float32}
    assert not any(name.startswith("pooler") for name in parameters)
    expected = saved.embeddings.word_embeddings.weight.float()
    assert torch.equal(parameters["embeddings.word_embeddings.weight"], expected)

    random = load_bert(str(tmp_path), random_weights=True)
    assert not torch.equal(random.network.embeddings.word_embeddings.weight, expected)


def test_a_folder_without_a_model_is_refused_in_one_line(tmp_path):
    with pytest.raises(VSEError) as error:
        load_bert(str(tmp_path))
    assert str(tmp_path) in str(error.value)
    assert "\n" not in str(error.value)
