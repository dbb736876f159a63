"""A model encodes, is saved whole and comes back as it was."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from tests.helpers.photo_folder import small_model
from tests.helpers.small_settings import SETTINGS
from tests.helpers.tiny_encoders import clip_folder, roberta_folder
from vse_gpo import VSE
from vse_gpo.batch import Batch
from vse_gpo.errors import VSEError
from vse_gpo.model import build_model
from vse_gpo.storage.settings import build


@pytest.fixture
def model() -> VSE:
    return small_model()


def test_images_and_captions_become_unit_embeddings_in_order(model, tmp_path):
    pixels = torch.randint(0, 256, (3, 3, 40, 50), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    for number, one in enumerate(pixels):
        Image.fromarray(one.permute(1, 2, 0).numpy()).save(tmp_path / f"{number}.png")
    paths = [tmp_path / f"{number}.png" for number in range(3)]
    from_paths = model.encode_images([str(path) for path in paths], batch_size=2)
    assert from_paths.shape == (3, 6)
    assert from_paths.dtype == torch.float32
    torch.testing.assert_close(from_paths.norm(dim=1), torch.ones(3))
    torch.testing.assert_close(from_paths, model.encode_images(list(pixels)))
    torch.testing.assert_close(from_paths, model.encode_images([Image.open(path) for path in paths]))
    captions = ["a red circle", "a large blue square above a star", "a heart"]
    together = model.encode_captions(captions)
    torch.testing.assert_close(together, torch.cat([model.encode_captions([caption]) for caption in captions]))


def test_encoding_leaves_the_model_in_its_mode(model):
    model.train()
    model.encode_captions(["a red circle"])
    assert model.training


def test_a_saved_model_comes_back_as_it_was(model, tmp_path):
    model.save_pretrained(tmp_path / "model")
    again = VSE.from_pretrained(tmp_path / "model")
    assert torch.equal(again.encode_captions(["a red circle"]), model.encode_captions(["a red circle"]))
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    with pytest.raises(VSEError, match="exists and is not empty"):
        model.save_pretrained(tmp_path / "model")


def test_a_model_with_an_interaction_comes_back_with_it(model, tmp_path):
    settings = SETTINGS | {"interaction": {"_target_": "vse_gpo.interaction.MaxSim", "direction": "t2i"}}
    model = build_model(settings, model.state_dict())
    model.save_pretrained(tmp_path / "model")
    again = VSE.from_pretrained(tmp_path / "model")
    pixels = torch.randint(0, 256, (2, 3, 40, 50), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    index = torch.arange(2)
    batch = Batch(model.prepare_images(list(pixels)), model.prepare_captions(["a red circle", "a heart"]), index, index)
    with torch.inference_mode():
        found, expected = (one.similarity("interaction", *one.outputs(batch)) for one in (again, model))
    assert torch.equal(found, expected)
    assert again.fingerprint() == model.fingerprint() != small_model().fingerprint()
    with torch.inference_mode(), pytest.raises(VSEError, match="the model has no interaction; train one with"):
        small_model().similarity("interaction", *small_model().outputs(batch))


def of_clip(folder: Path) -> dict[str, Any]:
    """Settings of a model on both towers of a CLIP."""
    image, text = (
        {"_target_": f"vse_gpo.backbones.clip.clip_{tower}", "pretrained": str(folder), "random_weights": False}
        for tower in ("images", "texts")
    )
    tokenizer = {"_target_": "vse_gpo.data.word_pieces.WordPieces", "pretrained": str(folder), "mask_token": "M"}
    return settings_with(image | {"class_token": False}, text, tokenizer)


def of_transformers(folder: Path) -> dict[str, Any]:
    """Settings of a model on a ViT of timm and a RoBERTa."""
    roberta_folder(folder)
    vit = {"_target_": "vse_gpo.backbones.timm_trunks.timm_grid", "name": "test_vit", "size": 32, "pretrained": False}
    text = {"_target_": "vse_gpo.backbones.texts.load_bert", "pretrained": str(folder), "random_weights": False}
    tokenizer = {"_target_": "vse_gpo.data.word_pieces.WordPieces", "pretrained": str(folder)}
    return settings_with(vit | {"class_token": True, "cells": 2}, text, tokenizer, width=64)


def settings_with(
    image: dict[str, Any], text: dict[str, Any], tokenizer: dict[str, Any], width: int = 8
) -> dict[str, Any]:
    projection = {"_target_": "torch.nn.Linear", "in_features": 8, "out_features": 6}
    return {
        **SETTINGS,
        "image_encoder": {
            **SETTINGS["image_encoder"],
            "backbone": image,
            "projection": projection | {"in_features": width},
        },
        "text_encoder": {**SETTINGS["text_encoder"], "backbone": text, "projection": projection},
        "prepare_captions": {"_target_": "vse_gpo.data.captions.PrepareCaptions", "tokenizer": tokenizer},
    }


@pytest.mark.parametrize("of", [of_clip, of_transformers])
def test_a_model_on_pretrained_encoders_comes_back_without_them(of, tmp_path):
    source = clip_folder(tmp_path / "encoders")
    settings = of(source)
    pretrained = build(settings)
    model = build_model(settings, pretrained.state_dict())
    model.save_pretrained(tmp_path / "model")
    shutil.rmtree(source)
    again = VSE.from_pretrained(tmp_path / "model")
    captions = ["a red car", "two skateboarders jump"]
    assert torch.equal(again.encode_captions(captions), model.encode_captions(captions))
    pixels = torch.randint(0, 256, (3, 40, 50), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    assert torch.equal(again.encode_images([pixels]), model.encode_images([pixels]))
    assert str(tmp_path) not in json.dumps(again.settings)


def test_a_model_put_together_by_hand_cannot_be_saved(tmp_path):
    with pytest.raises(VSEError, match="its settings are not known"):
        build(SETTINGS).save_pretrained(tmp_path / "model")
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("vse_gpo.json", b"{", "not a saved model"),
        ("vse_gpo.json", b'{"_target_": "os.system"}', "not the settings of a model"),
        ("model.safetensors", b"cut", "not a saved model"),
    ],
)
def test_damaged_folders_give_one_line(file, content, message, model, tmp_path):
    model.save_pretrained(tmp_path / "model")
    (tmp_path / "model" / file).write_bytes(content)
    with pytest.raises(VSEError, match=message) as error:
        VSE.from_pretrained(tmp_path / "model")
    assert "\n" not in str(error.value)


def test_weights_of_another_model_are_refused(model, tmp_path):
    model.save_pretrained(tmp_path / "model")
    path = Path(tmp_path / "model" / "vse_gpo.json")
    settings = json.loads(path.read_text())
    settings["image_encoder"]["projection"]["out_features"] = 7
    path.write_text(json.dumps(settings))
    with pytest.raises(VSEError, match=r"weights of another model: 2 of \d+"):
        VSE.from_pretrained(tmp_path / "model")


@pytest.mark.parametrize("width", [2**31, -1])
def test_sizes_that_no_model_has_are_told_in_one_line(model, width):
    settings = json.loads(json.dumps(SETTINGS))
    settings["image_encoder"]["backbone"]["width"] = width
    with pytest.raises(VSEError) as error:
        build_model(settings, model.state_dict())
    assert "\n" not in str(error.value)


def test_a_fingerprint_tells_models_apart_and_survives_saving(model, tmp_path):
    model.save_pretrained(tmp_path / "model")
    again = VSE.from_pretrained(tmp_path / "model")
    assert again.fingerprint() == model.fingerprint()
    assert again.train().half().float().fingerprint() != model.fingerprint()  # rounded weights
    larger = {**SETTINGS, "prepare_images": {"_target_": "vse_gpo.data.images.PrepareImages", "size": 48}}
    assert build_model(larger, model.state_dict()).fingerprint() != model.fingerprint()
    with pytest.raises(VSEError, match="put together by hand"):
        build(SETTINGS).fingerprint()
