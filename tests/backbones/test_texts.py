import json
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import BertConfig, BertModel, PreTrainedConfig, T5Config

from tests.golden import FOLDER, assert_close, load, under
from tests.helpers.launches import Launches
from tests.helpers.tiny_encoders import FAMILIES, WORDS, clip_folder
from vse_gpo.backbones.texts import Bert, bert_of, load_bert
from vse_gpo.batch import Tokens
from vse_gpo.checkpoints.released import bert_names
from vse_gpo.encoder import Encoder
from vse_gpo.errors import VSEError
from vse_gpo.pooling import GPO
from vse_gpo.storage.settings import build


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


def bert_base() -> BertModel:
    """A BERT-base in all but its widths."""
    widths = {"hidden_size": 48, "num_attention_heads": 12, "intermediate_size": 96}
    return BertModel(BertConfig(num_hidden_layers=12, vocab_size=500, **widths), add_pooling_layer=False).train()


def captions() -> Tokens:
    lengths = torch.arange(6, 22)
    return Tokens(torch.ones(len(lengths), int(lengths.max()), dtype=torch.long), lengths)


@pytest.mark.parametrize(("device", "runs"), [("cpu", 4), ("cuda", 1)])
def test_a_gpu_runs_a_batch_of_captions_as_a_whole(device, runs):
    """It reads no length back: a fake tensor, which does all but the arithmetic, has no value."""
    tokens, counted = captions(), []
    with FakeTensorMode(allow_non_fake_inputs=True) if device == "cuda" else nullcontext(), torch.device(device):
        backbone = Bert(bert_base(), groups=4)
        backbone.network.register_forward_hook(lambda *_: counted.append(1))
        values = backbone(Tokens(*(part.to(device) for part in tokens))).values
    assert values.shape == (16, 21, 48)
    assert len(counted) == runs


@pytest.mark.parametrize(("groups", "least", "most"), [(1, 0, 1000), (4, 4000, 5000)])
def test_a_batch_as_a_whole_starts_a_quarter_of_the_kernels(groups, least, most):
    backbone = Bert(bert_base(), groups)
    with Launches() as launches:
        backbone(captions()).values.sum().backward()
    assert least <= launches.calls.total() <= most


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


# encoders of other kinds


def encoder(config: PreTrainedConfig, groups: int = 1) -> Bert:
    torch.manual_seed(0)
    return bert_of(config.to_dict(), groups=groups).eval()


@pytest.mark.parametrize("config", FAMILIES.values(), ids=FAMILIES)
def test_padding_and_its_id_do_not_matter_to_any_encoder(config):
    """RoBERTa and MPNet begin with token 0, our padding, and pad with 1 themselves."""
    backbone = encoder(config, groups=2)
    captions = [torch.tensor([0, 7, 8, 9, 2]), torch.tensor([0, 5, 2]), torch.tensor([0, 3, 4, 2])]
    tokens = Tokens(torch.nn.utils.rnn.pad_sequence(captions, batch_first=True), torch.tensor([5, 3, 4]))
    values = backbone(tokens).values
    for row, caption in zip(values, captions, strict=True):
        alone = backbone.network(input_ids=caption[None], attention_mask=torch.ones(1, len(caption)).long())
        torch.testing.assert_close(row[: len(caption)], alone.last_hidden_state[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("config", FAMILIES.values(), ids=FAMILIES)
def test_every_parameter_of_any_encoder_trains_in_one_of_its_layers(config):
    backbone = encoder(config)
    tokens = Tokens(torch.randint(3, WORDS, (3, 6)), torch.tensor([6, 5, 2]))
    backbone(tokens).values.square().sum().backward()
    assert [name for name, parameter in backbone.named_parameters() if parameter.grad is None] == []
    layers = backbone.layers()
    names = {parameter: name for name, parameter in backbone.network.named_parameters()}
    assert len(layers) == 3
    assert all(names[parameter].startswith("embeddings.") for parameter in layers[0])
    assert sorted(names[parameter] for layer in layers for parameter in layer) == sorted(names.values())


@pytest.mark.parametrize("config", FAMILIES.values(), ids=FAMILIES)
def test_any_encoder_is_built_again_from_its_architecture_alone(config, tmp_path):
    backbone = encoder(config, groups=3)
    settings = json.loads(json.dumps(backbone.architecture({"pretrained": "a hub name"})))
    assert "transformers_version" not in settings["config"]  # an index would not know its model after an upgrade
    again = build(settings)
    again.load_state_dict(backbone.state_dict())
    assert again.groups == 3
    backbone.network.save_pretrained(tmp_path)
    loaded = load_bert(str(tmp_path), width=8)
    assert all(torch.equal(value, loaded.state_dict()[name]) for name, value in backbone.state_dict().items())


@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_a_caption_that_is_longer_than_the_encoder_gives_one_line(family):
    config = FAMILIES[family].to_dict() | {"max_position_embeddings": 9}
    tokens = Tokens(torch.full((1, 10), 5), torch.tensor([10]))
    with pytest.raises(
        VSEError, match=r"10 tokens, the text encoder takes 9; set text\.prepare\.tokenizer\.max_tokens=9"
    ):
        bert_of(config)(tokens)


def test_a_model_that_is_no_text_encoder_is_refused_in_one_line(tmp_path):
    T5Config(vocab_size=9, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2).save_pretrained(tmp_path / "t5")
    clip_folder(tmp_path / "clip")
    for name in ("t5", "clip"):
        with pytest.raises(VSEError, match=f"{name} is not a text encoder; for CLIP set text=clip"):
            load_bert(str(tmp_path / name), random_weights=True)
    FAMILIES["roberta"].save_pretrained(tmp_path)
    with pytest.raises(VSEError, match=r"features 8 wide, text\.width is 768; set text\.width=8"):
        load_bert(str(tmp_path), width=768, random_weights=True)
