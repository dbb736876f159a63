"""Halves of dual encoders; ``tests/checkpoints/test_dual.py`` compares whole models with the library's own."""

import pytest
import torch
from torch import nn
from transformers import (
    AltCLIPConfig,
    BertConfig,
    CLIPConfig,
    CLIPModel,
    CLIPSegConfig,
    FlavaConfig,
    FlavaModel,
    RobertaConfig,
    RobertaModel,
    Siglip2Config,
    SiglipConfig,
)

from tests.helpers.tiny_encoders import SMALL
from vse_gpo.backbones.dual import DualImages, dual_class, dual_images_of, dual_texts_of, longest_text, tower_of, towers
from vse_gpo.batch import Tokens
from vse_gpo.errors import VSEError
from vse_gpo.storage.settings import build

SIDES = {"mean": [0.5] * 3, "std": [0.5] * 3}
CONFIG = CLIPConfig(
    text_config={**SMALL, "vocab_size": 30, "max_position_embeddings": 9, "bos_token_id": 1, "eos_token_id": 2},
    vision_config={**SMALL, "image_size": 16, "patch_size": 8},
    projection_dim=6,
)


def clip() -> CLIPModel:
    torch.manual_seed(0)
    return CLIPModel(CONFIG).eval()


def test_a_networks_halves_share_nothing_and_give_its_features():
    whole = clip()
    images, texts = towers(clip())
    assert set(dict(images.named_children())) == {"vision_model", "visual_projection"}
    assert set(dict(texts.named_children())) == {"text_model", "text_projection"}
    assert not {*map(id, images.parameters())} & {*map(id, texts.parameters())}
    pixels = torch.rand(2, 3, 16, 16)
    expected = whole.get_image_features(pixel_values=pixels).pooler_output
    assert torch.equal(images.get_image_features(pixel_values=pixels).pooler_output, expected)
    ids = torch.tensor([[1, 5, 2]])
    expected = whole.get_text_features(input_ids=ids).pooler_output
    assert torch.equal(texts.get_text_features(input_ids=ids).pooler_output, expected)


def test_each_family_that_the_library_gives_both_features_is_known():
    for known in (CLIPConfig, SiglipConfig, Siglip2Config, AltCLIPConfig, CLIPSegConfig):
        assert dual_class(known()) is not None
    for other in (BertConfig, RobertaConfig):
        assert dual_class(other()) is None
    with torch.device("meta"):
        flava = FlavaModel(FlavaConfig())
    with pytest.raises(VSEError, match="flava has image_model beside its two towers; such models are not taken"):
        towers(flava)


def test_a_half_is_built_from_its_architecture_even_without_memory():
    images, _ = towers(clip())
    backbone = DualImages(images, **SIDES)
    settings = backbone.architecture({})
    again = build(settings)
    again.load_state_dict(backbone.state_dict())
    pixels = torch.randint(256, (2, 3, 16, 16), dtype=torch.uint8)
    assert torch.equal(again.eval()(pixels).values, backbone(pixels).values)
    with torch.device("meta"):
        shapes = build(settings).state_dict()
    assert {name: value.shape for name, value in shapes.items()} == {
        name: value.shape for name, value in backbone.state_dict().items()
    }
    with pytest.raises(VSEError, match="bert is not a dual encoder"):
        dual_images_of(BertConfig(**SMALL).to_dict(), **SIDES)


def test_what_may_run_code_is_left_out_of_both_towers():
    config = CONFIG.to_dict()
    for part in (config, config["text_config"], config["vision_config"]):
        part |= {"attn_implementation": "account/kernel", "auto_map": {"AutoModel": "code.C"}}
    half = dual_texts_of(config, masked=True)
    assert half.network.config.text_config._attn_implementation == "sdpa"
    assert "auto_map" not in half.network.config.vision_config.to_dict()


def test_a_mask_leaves_padding_out_and_no_mask_reads_it():
    _, texts = towers(clip())
    one, padded = torch.tensor([[1, 5, 2]]), torch.tensor([[1, 5, 2, 0, 0]])
    for masked in (True, False):  # CLIP's tokens do not see later ones: both give the same
        backbone = type(dual_texts_of(CONFIG.to_dict(), masked=masked))(texts, masked=masked)
        found = backbone(Tokens(padded, torch.tensor([3]))).values
        torch.testing.assert_close(found, backbone(Tokens(one, torch.tensor([3]))).values)
    with pytest.raises(VSEError, match="10 tokens, the text encoder takes 9"):
        backbone(Tokens(torch.ones(1, 10, dtype=torch.long), torch.tensor([10])))


def test_the_longest_text_is_read_from_the_positions():
    _, texts = towers(clip())
    assert longest_text(tower_of(texts)) == 9
    roberta = RobertaModel(RobertaConfig(**SMALL, vocab_size=20, max_position_embeddings=12, pad_token_id=1))
    assert longest_text(roberta) == 10  # positions count from 2
    tower_of(texts).embeddings.position_embedding = nn.Identity()
    with pytest.raises(VSEError, match="no table of positions"):
        longest_text(tower_of(texts))
