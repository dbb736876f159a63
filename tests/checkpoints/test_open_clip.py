"""Models of open_clip: embeddings equal its own, and what is none gets one line."""

import json
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.helpers.tiny_duals import CAPTIONS, dual_folder, open_clip_folder, photographs
from vse_gpo import VSE
from vse_gpo.checkpoints import open_clip as loading
from vse_gpo.checkpoints.open_clip import load_open_clip
from vse_gpo.errors import VSEError

pytestmark = pytest.mark.filterwarnings("ignore:captions are cut")


@pytest.fixture(scope="module", params=["CLIP", "SigLIP"])
def folder(request, tmp_path_factory) -> Path:
    home = tmp_path_factory.mktemp("open_clip")
    words = dual_folder("siglip2", home / "words") if request.param == "SigLIP" else None
    return open_clip_folder(home / "model", tokenizer=words)


def assert_open_clips(model: VSE, folder: Path, images: list[Any]) -> None:
    network, _, transform = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    tokenizer = open_clip.get_tokenizer(f"local-dir:{folder}")
    with torch.no_grad():
        network.eval()
        expected = (
            network.encode_image(torch.stack([transform(image) for image in images]), normalize=True),
            network.encode_text(tokenizer(CAPTIONS), normalize=True),
        )
        logits = network.logit_scale.exp() * expected[0] @ expected[1].T
        logits = logits if network.logit_bias is None else logits + network.logit_bias
    found = model.encode_images(images), model.encode_captions(CAPTIONS)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(model.logits(found[0] @ found[1].T), logits, atol=1e-5, rtol=0)


def test_embeddings_equal_open_clips_after_loading_and_saving(folder, tmp_path):
    model = VSE.from_pretrained(folder)
    assert_open_clips(model, folder, photographs())
    model.save_pretrained(tmp_path / "saved")
    again = VSE.from_pretrained(tmp_path / "saved")
    assert again.fingerprint() == model.fingerprint()
    assert_open_clips(again, folder, photographs(4))


def test_a_name_and_tag_are_those_that_open_clip_lists(monkeypatch, tmp_path):
    for source, line in (
        (
            "open_clip:ViT-B-3/openai",
            r"no weights for ViT-B-3 \(did you mean ViT-B-32\?\); expected open_clip:NAME/TAG",
        ),
        ("open_clip:ViT-B-32", r"ViT-B-32 has no weights called …; there are openai, "),
        ("open_clip:ViT-B-32/laion", "ViT-B-32 has no weights called laion; there are openai, "),
        ("open_clip:ViT-B-32/laion2b_s34b_b79k", "CLIP-ViT-B-32-laion2B-s34B-b79K: neither a folder nor"),
        ("hf-hub:no/such", "no/such: neither a folder nor a model that the Hugging Face hub gives"),
        ("local-dir:/no/such", "open_clip_config.json cannot be read"),
    ):
        with pytest.raises(VSEError, match=line) as error:  # the tests have no network
            VSE.from_pretrained(source)
        assert "\n" not in str(error.value)
    seen = {}
    created = open_clip.create_model(f"local-dir:{open_clip_folder(tmp_path / 'model')}", force_custom_text=True)

    def create(name: str, **settings: Any) -> Any:
        seen.update(settings, name=name)
        return created

    monkeypatch.setattr(loading, "check_pretrained", lambda *names: None)
    monkeypatch.setattr(loading.open_clip, "create_model", create)
    monkeypatch.setattr(loading.open_clip, "get_model_config", lambda name: json.loads(config)["model_cfg"])
    config = (tmp_path / "model" / "open_clip_config.json").read_text()
    model = load_open_clip(
        "open_clip:ViT-B-32/openai"
    )  # OpenAI's were trained with another GELU, which open_clip warns of
    assert (seen["name"], seen["pretrained"], seen["force_quick_gelu"]) == ("ViT-B-32", "openai", True)
    assert model.settings["image_encoder"]["backbone"]["config"]["quick_gelu"] is True


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"multimodal_cfg": {}}, "a CoCa, whose text tower also writes captions"),
        ({"text_cfg": {"hf_model_name": "roberta-base"}}, "its text tower is roberta-base of the hub"),
        ({"vision_cfg": {"timm_model_name": "hf-hub:a/b"}}, "hf-hub:a/b is fetched from elsewhere, which is refused"),
        ({"embed_dim": 7}, "open_clip gives no model"),
        ({"vision_cfg": None}, "not open_clip's model_cfg"),
    ],
)
def test_what_is_not_two_towers_is_refused(changes, line, tmp_path):
    folder = open_clip_folder(tmp_path / "model")
    path = folder / "open_clip_config.json"
    written = json.loads(path.read_text())
    written["model_cfg"] |= changes
    path.write_text(json.dumps(written))
    with pytest.raises(VSEError, match=line) as error:
        VSE.from_pretrained(folder)
    assert "\n" not in str(error.value)


def test_missing_weights_are_not_replaced_by_random_ones(tmp_path):
    folder = open_clip_folder(tmp_path / "model")
    path = folder / "open_clip_model.safetensors"
    weights = load_file(path)
    del weights["ln_final.weight"]
    save_file(weights, path)
    with pytest.raises(VSEError, match="open_clip gives no model"):
        VSE.from_pretrained(folder)
    path.unlink()
    with pytest.raises(VSEError, match="open_clip gives no model"):
        VSE.from_pretrained(folder)
