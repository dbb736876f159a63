"""open_clip's towers; ``tests/checkpoints/test_open_clip.py`` compares whole models with open_clip's own."""

import pytest
import torch

from vse_gpo.backbones.open_clip import open_clip_images_of, open_clip_texts_of, taken_config
from vse_gpo.batch import Tokens
from vse_gpo.errors import VSEError
from vse_gpo.storage.settings import build

CONFIG = {
    "embed_dim": 6,
    "vision_cfg": {"image_size": 16, "layers": 1, "width": 8, "head_width": 4, "patch_size": 8},
    "text_cfg": {"context_length": 5, "vocab_size": 20, "width": 8, "heads": 2, "layers": 1},
}


def test_towers_give_one_item_and_are_built_from_their_architecture():
    images = open_clip_images_of(CONFIG, mean=[0.5] * 3, std=[0.25] * 3)
    texts = open_clip_texts_of(CONFIG)
    inputs = {
        images: torch.randint(256, (2, 3, 16, 16), dtype=torch.uint8),
        texts: Tokens(torch.randint(20, (2, 5)), torch.tensor([5, 5])),
    }
    for tower, given in inputs.items():
        features = tower.eval()(given)
        assert features.values.shape == (2, 1, 6)
        assert features.lengths.tolist() == [1, 1]
        again = build(tower.architecture({})).eval()
        again.load_state_dict(tower.state_dict())
        assert torch.equal(again(given).values, features.values)


def test_a_config_keeps_its_two_towers_and_fetches_nothing():
    more = CONFIG | {"custom_text": True, "init_logit_bias": -10, "vision_cfg": {"timm_model_name": "vit_tiny"}}
    assert taken_config(more) == {
        "embed_dim": 6,
        "vision_cfg": {"timm_model_name": "vit_tiny", "timm_model_pretrained": False},
        "text_cfg": CONFIG["text_cfg"],
    }
    for refused in ({}, {"vision_cfg": 3}, {"multimodal_cfg": {}}, {"text_cfg": {"hf_model_name": "a/b"}}):
        with pytest.raises(VSEError):
            taken_config((CONFIG | refused) if refused else {})
    for broken in ({"width": 7}, {"made_up": 1}):
        with pytest.raises(VSEError, match="not a model of open_clip") as error:
            open_clip_texts_of(CONFIG | {"text_cfg": CONFIG["text_cfg"] | broken})
        assert "\n" not in str(error.value)
