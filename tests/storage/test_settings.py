"""Models from settings that may come from anywhere."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import ModelCard, RepoUrl
from PIL import Image
from torch import nn

from tests.helpers.small_settings import SETTINGS
from tests.helpers.tiny_encoders import clip_folder, roberta_folder
from vse_gpo import VSE
from vse_gpo.errors import VSEError
from vse_gpo.model import build_model
from vse_gpo.storage import hub
from vse_gpo.storage.card import metrics_of_checkpoint, model_card, read_metrics
from vse_gpo.storage.settings import build, without_weights


@pytest.fixture
def model() -> VSE:
    torch.manual_seed(0)
    return build_model(SETTINGS, build(SETTINGS).state_dict())


def test_parts_are_built_from_the_inside_out():
    built = build({"_target_": "torch.nn.Linear", "in_features": 2, "out_features": 3})
    assert isinstance(built, nn.Linear)
    assert build([{"a": 1}, None, "text"]) == [{"a": 1}, None, "text"]


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("os.system", "no part of a model"),
        ("vse_gpo.commands.run_command", "no part of a model"),
        ("vse_gpo.data.files.os.system", "no such part"),
        ("torch.nn.modules.module.torch.hub.load", "no such part"),
        ("vse_gpo.pooling.Nothing", "no such part"),
        ("vse_gpo.data.files._reason", "no part of a model"),
        ("vse_gpo.model.upload", "no part of a model"),
        ("vse_gpo.model.write_weights", "no part of a model"),
        ("vse_gpo.model.VSE.from_pretrained", "no such part"),
        ("vse_gpo.backbones.texts.AutoModel", "no part of a model, it is transformers"),
        (3, "no part of a model"),
    ],
)
def test_nothing_else_is_built(target, message):
    with pytest.raises(VSEError, match=message):
        build({"_target_": target})


def test_arguments_that_do_not_fit_are_an_error_for_the_user():
    with pytest.raises(VSEError, match="another version of vse_gpo"):
        build({"_target_": "vse_gpo.pooling.GPO", "width": 3})


@pytest.mark.parametrize("name", ["../outside", "/etc/hostname"])
def test_files_stay_inside_the_folder(name, tmp_path):
    with pytest.raises(VSEError, match="leads out of"):
        build({"path": f"inside:{name}"}, tmp_path)
    assert build({"path": "inside:words.json"}, tmp_path) == {"path": str(tmp_path / "words.json")}


def test_an_architecture_fetches_nothing():
    settings = {
        "backbone": {"_target_": "x", "weights": "a.pth", "pretrained": True, "random_weights": False},
        "tokenizer": {"_target_": "y", "pretrained": "bert-base-uncased"},
    }
    assert without_weights(settings) == {
        "backbone": {"_target_": "x", "weights": None, "pretrained": False, "random_weights": True},
        "tokenizer": {"_target_": "y", "pretrained": "bert-base-uncased"},
    }


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


def test_nothing_cannot_be_encoded(model):
    with pytest.raises(VSEError, match="empty list"):
        model.encode_captions([])


def test_a_saved_model_comes_back_as_it_was(model, tmp_path):
    model.save_pretrained(tmp_path / "model")
    again = VSE.from_pretrained(tmp_path / "model")
    assert torch.equal(again.encode_captions(["a red circle"]), model.encode_captions(["a red circle"]))
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    with pytest.raises(VSEError, match="exists and is not empty"):
        model.save_pretrained(tmp_path / "model")


def of_clip(folder: Path) -> dict[str, Any]:
    """Settings of a model on both towers of a CLIP."""
    image, text = (
        {"_target_": f"vse_gpo.backbones.clip.clip_{tower}", "pretrained": str(folder), "random_weights": False}
        for tower in ("images", "texts")
    )
    tokenizer = {"_target_": "vse_gpo.data.captions.WordPieces", "pretrained": str(folder), "mask_token": "M"}
    return settings_with(image | {"class_token": False}, text, tokenizer)


def of_transformers(folder: Path) -> dict[str, Any]:
    """Settings of a model on a ViT of timm and a RoBERTa."""
    roberta_folder(folder)
    vit = {"_target_": "vse_gpo.backbones.images.timm_grid", "name": "test_vit", "size": 32, "pretrained": False}
    text = {"_target_": "vse_gpo.backbones.texts.load_bert", "pretrained": str(folder), "random_weights": False}
    tokenizer = {"_target_": "vse_gpo.data.captions.WordPieces", "pretrained": str(folder)}
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
        ("vse_gpo.json", b"{", "no saved model"),
        ("vse_gpo.json", b'{"_target_": "os.system"}', "settings of no model"),
        ("model.safetensors", b"cut", "no saved model"),
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


# fingerprints, cards and the hub


def test_a_fingerprint_tells_models_apart_and_survives_saving(model, tmp_path):
    model.save_pretrained(tmp_path / "model")
    again = VSE.from_pretrained(tmp_path / "model")
    assert again.fingerprint() == model.fingerprint()
    assert again.train().half().float().fingerprint() != model.fingerprint()  # rounded weights
    larger = {**SETTINGS, "prepare_images": {"_target_": "vse_gpo.data.images.PrepareImages", "size": 48}}
    assert build_model(larger, model.state_dict()).fingerprint() != model.fingerprint()
    with pytest.raises(VSEError, match="put together by hand"):
        build(SETTINGS).fingerprint()


METRICS = {"coco_5k": {"i2t_r1": 58.3, "rsum": 432.16}, "coco_1k_5fold": {"rsum": 531.6}}


def test_a_card_tells_what_the_model_is_and_scores(model, tmp_path):
    model.save_pretrained(tmp_path / "model", card=model_card("me/vse", model.architecture(), METRICS))
    card = ModelCard.load(tmp_path / "model" / "README.md")
    results = {(one.dataset_name, one.metric_type): one.metric_value for one in card.data.eval_results}
    assert results == {(protocol, name): value for protocol, of in METRICS.items() for name, value in of.items()}
    assert card.data.model_name == "vse"
    assert "small_grid" in card.text
    assert 'VSE.from_pretrained("me/vse")' in card.text
    assert VSE.from_pretrained(tmp_path / "model").fingerprint() == model.fingerprint()
    assert ModelCard(str(model_card("vse", model.architecture(), {}))).data.library_name == "vse_gpo"


def test_the_metrics_of_a_run_are_those_of_the_checkpoint_that_was_tested(tmp_path):
    run = tmp_path / "run"
    (run / "checkpoints").mkdir(parents=True)
    written = {"val/best_rsum": 3.0, "best_checkpoint": "/gone/checkpoints/best.ckpt", "epochs": 2}
    (run / "metrics.json").write_text(json.dumps(written))
    best = run / "checkpoints" / "best.ckpt"
    assert metrics_of_checkpoint(best) == {}  # not tested
    with pytest.raises(VSEError, match="no test metrics in it"):
        read_metrics(run / "metrics.json")
    (run / "metrics.json").write_text(json.dumps(written | {"test/all/rsum": 5, "test/ema/all/rsum": 6}))
    assert metrics_of_checkpoint(best) == read_metrics(run / "metrics.json") == {"all": {"rsum": 5.0}}
    assert metrics_of_checkpoint(best.with_name("best_ema.ckpt")) == {"all": {"rsum": 6.0}}
    assert metrics_of_checkpoint(best.with_name("last.ckpt")) == {}
    assert metrics_of_checkpoint(Path("model_best.pth")) == {}
    (run / "metrics.json").write_text("{")
    for read in (lambda: read_metrics(run / "metrics.json"), lambda: metrics_of_checkpoint(best)):
        with pytest.raises(VSEError, match=r"metrics\.json: cannot be read"):
            read()


def test_a_model_goes_to_the_hub_with_its_card(model, monkeypatch):
    seen = {}

    def create(repo_id, private, exist_ok):
        return RepoUrl(f"https://huggingface.co/{repo_id}")

    def upload(repo_id, folder_path, commit_message):
        seen.update(repo=repo_id, message=commit_message, files={path.name for path in Path(folder_path).iterdir()})
        seen["fingerprint"] = VSE.from_pretrained(folder_path).fingerprint()

    monkeypatch.setattr(hub, "create_repo", create)
    monkeypatch.setattr(hub, "upload_folder", upload)
    assert model.push_to_hub("me/vse", metrics=METRICS) == "https://huggingface.co/me/vse"
    assert seen == {
        "repo": "me/vse",
        "message": "Upload the model",
        "files": {"vse_gpo.json", "model.safetensors", "README.md"},
        "fingerprint": model.fingerprint(),
    }


def test_a_hub_that_does_not_take_a_model_gives_one_line(model):
    with pytest.raises(VSEError, match="me/vse: the Hugging Face hub does not take the model") as error:
        model.push_to_hub("me/vse")  # the tests have no network
    assert "\n" not in str(error.value)
