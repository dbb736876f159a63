"""Dual encoders in folders of other programs: embeddings equal the library's own, and what is none is named."""

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import (
    AutoImageProcessor,
    AutoModel,
    AutoTokenizer,
    CLIPImageProcessor,
    EfficientNetImageProcessor,
    PreTrainedModel,
    Siglip2ImageProcessor,
)

from tests.helpers.tiny_duals import CAPTIONS, FAMILIES, SIDE, dual_folder, photographs
from tests.helpers.tiny_encoders import roberta_folder
from vse_gpo import VSE
from vse_gpo.backbones.hugging_face import quietly
from vse_gpo.checkpoints.dual import check_dual, load_dual
from vse_gpo.checkpoints.export import export_towers, write_torch
from vse_gpo.data.images import to_pixels
from vse_gpo.errors import VSEError

SHARED = Path(os.environ.get("VSE_GPO_FLICKR8K", Path(__file__).parents[3] / "shared" / "data" / "flickr8k"))
pytestmark = pytest.mark.filterwarnings("ignore:captions are cut")


class Loaded(NamedTuple):
    """A family's folder, our model of it, and the library's model and processor."""

    family: str
    folder: Path
    model: VSE
    network: PreTrainedModel
    processor: Any
    tokenizer: Any


@pytest.fixture(scope="module", params=FAMILIES)
def loaded(request, tmp_path_factory) -> Loaded:
    folder = dual_folder(request.param, tmp_path_factory.mktemp(request.param) / "model")
    with quietly():
        network = AutoModel.from_pretrained(folder).eval()
    processor, tokenizer = AutoImageProcessor.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    return Loaded(request.param, folder, VSE.from_pretrained(folder), network, processor, tokenizer)


@torch.no_grad()
def library_images(loaded: Loaded, images: list[Image.Image]) -> torch.Tensor:
    inputs = [loaded.processor(images=[image], return_tensors="pt") for image in images]
    embeddings = torch.cat([loaded.network.get_image_features(**one).pooler_output for one in inputs])
    return torch.nn.functional.normalize(embeddings)


@torch.no_grad()
def library_captions(loaded: Loaded, captions: list[str]) -> torch.Tensor:
    """As each model's page says: SigLIP's captions are padded to 64 tokens; SigLIP 2's are also in lower case."""
    padding = "max_length" if loaded.family.startswith("siglip") else True
    captions = [caption.lower() for caption in captions] if loaded.family == "siglip2" else captions
    tokens = loaded.tokenizer(captions, padding=padding, truncation=True, return_tensors="pt")
    assert ("attention_mask" in tokens) is not loaded.family.startswith("siglip")
    return torch.nn.functional.normalize(loaded.network.get_text_features(**tokens).pooler_output)


def assert_the_librarys(model: VSE, loaded: Loaded, images: list[Image.Image]) -> None:
    expected = library_images(loaded, images), library_captions(loaded, CAPTIONS)
    assert len({tuple(row) for row in expected[0].tolist()}) == len(images)  # no two alike
    for found, embeddings in zip((model.encode_images(images), model.encode_captions(CAPTIONS)), expected, strict=True):
        torch.testing.assert_close(found, embeddings, atol=1e-5, rtol=0)


def test_embeddings_equal_the_librarys(loaded):
    assert_the_librarys(loaded.model, loaded, photographs())
    alone = [loaded.model.encode_captions(caption) for caption in CAPTIONS]  # whatever is in the batch
    torch.testing.assert_close(torch.cat(alone), loaded.model.encode_captions(CAPTIONS), atol=1e-5, rtol=0)


@pytest.mark.skipif(not SHARED.is_dir(), reason=f"no Flickr8k in {SHARED}; VSE_GPO_FLICKR8K names its folder")
def test_embeddings_of_photographs_equal_the_librarys(loaded):
    files = sorted(SHARED.rglob("*.jpg"))[:20]
    images = [Image.open(file).convert("RGB") for file in files]
    odd = [image.resize(size) for image, size in zip(images, [(400, 97), (53, 224), (500, 375)], strict=False)]
    assert_the_librarys(loaded.model, loaded, images[3:] + odd)


def test_pixels_are_the_processors(loaded):
    """Both resize tensors of bytes, so no pixel differs; Pillow's resizing differs by a grey level in 0.7 % of them."""
    prepare = loaded.model.prepare_images
    for image in photographs():
        raw = loaded.processor(images=[image], do_rescale=False, do_normalize=False, return_tensors="pt")
        assert torch.equal(prepare.encode(to_pixels(image)), raw["pixel_values"][0])
    assert prepare.size == SIDE


def test_logits_are_the_librarys(loaded):
    images, captions = loaded.model.encode_images(photographs(3)), loaded.model.encode_captions(CAPTIONS[:4])
    network = loaded.network
    expected = images @ captions.T * network.logit_scale.exp() + getattr(network, "logit_bias", torch.zeros(()))
    torch.testing.assert_close(loaded.model.logits(images @ captions.T), expected.detach())


def test_a_saved_model_is_the_same_and_needs_nothing_else(loaded, tmp_path):
    loaded.model.save_pretrained(tmp_path / "saved")
    moved = shutil.move(tmp_path / "saved", tmp_path / "moved")
    again = VSE.from_pretrained(moved)
    assert again.fingerprint() == loaded.model.fingerprint()
    assert_the_librarys(again, loaded, photographs(4))


def test_the_halves_hold_each_weight_once(loaded):
    ours = sum(weight.numel() for weight in loaded.model.parameters())
    scale_and_bias = 2 if loaded.family.startswith("siglip") else 1
    assert ours == sum(weight.numel() for weight in loaded.network.parameters()) - scale_and_bias


def test_towers_have_layers(loaded):
    for encoder in (loaded.model.image_encoder, loaded.model.text_encoder):
        layers = encoder.backbone.layers()
        assert len(layers) == 3
        assert sorted(id(one) for layer in layers for one in layer) == sorted(map(id, encoder.parameters()))


def test_a_model_is_exported(tmp_path):
    model = load_dual(dual_folder("siglip", tmp_path / "model"))
    differences = export_towers(model, tmp_path / "towers", write_torch, kind="pt2")
    assert max(differences.values()) < 1e-5
    captions = json.loads((tmp_path / "towers" / "towers.json").read_text())["prepare_captions"]
    assert captions["tokenizer"] | {"max_tokens": 64, "padded": True} == captions["tokenizer"]


# sentence-transformers


def test_a_folder_of_sentence_transformers_is_the_model_in_it(tmp_path):
    inner = dual_folder("clip", tmp_path / "0_CLIPModel")
    modules = [
        {"idx": 0, "name": "0", "path": inner.name, "type": "sentence_transformers.models.CLIPModel"},
        {"idx": 1, "name": "1", "path": "1_Normalize", "type": "sentence_transformers.models.Normalize"},
    ]
    (tmp_path / "modules.json").write_text(json.dumps(modules))
    found = VSE.from_pretrained(tmp_path).encode_captions(CAPTIONS)
    assert torch.equal(found, VSE.from_pretrained(inner).encode_captions(CAPTIONS))
    for change, line in (
        ([*modules, modules[0]], "sentence-transformers' CLIPModel, Normalize, CLIPModel; expected CLIP"),
        ([modules[0] | {"path": "../.."}], r"modules\.json: \.\./\.\. points outside"),
        ([{"idx": 0}], "not a list of modules"),
    ):
        (tmp_path / "modules.json").write_text(json.dumps(change))
        with pytest.raises(VSEError, match=line):
            VSE.from_pretrained(tmp_path)


# what is refused


@pytest.fixture
def folder(tmp_path) -> Path:
    return dual_folder("clip", tmp_path / "model")


def refusal(folder: Path) -> str:
    with pytest.raises(VSEError) as error:
        VSE.from_pretrained(folder)
    assert "\n" not in str(error.value)
    return str(error.value)


def change_config(folder: Path, **changes: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))


def test_a_model_of_another_kind_is_named(tmp_path):
    line = refusal(roberta_folder(tmp_path / "roberta"))
    assert line.endswith(
        "holds a roberta (RobertaModel), expected CLIP, SigLIP or another model with an image and a text tower"
    )
    with pytest.raises(VSEError, match="holds a roberta"):
        check_dual(tmp_path / "roberta")
    (tmp_path / "made_up").mkdir()
    (tmp_path / "made_up" / "config.json").write_text('{"model_type": "made_up"}')
    assert "not a model that transformers knows" in refusal(tmp_path / "made_up")
    (tmp_path / "made_up" / "config.json").write_text("{")
    assert "config.json: cannot be read" in refusal(tmp_path / "made_up")


def test_code_that_comes_with_a_model_is_never_run(folder):
    marker = folder / "ran"
    (folder / "code.py").write_text(f"import pathlib; pathlib.Path({str(marker)!r}).touch()\nclass C: pass\n")
    maps = {"AutoConfig": "code.C", "AutoModel": "code.C", "AutoTokenizer": "code.C", "AutoImageProcessor": "code.C"}
    change_config(folder, model_type="made_up", auto_map=maps)
    assert "a made_up needs Python code that comes with it, which is never run" in refusal(folder)
    change_config(folder, model_type="clip", attn_implementation="account/kernel")  # known: it is built without them
    VSE.from_pretrained(folder)
    assert not marker.exists()


@pytest.mark.parametrize(
    ("files", "line"),
    [
        (("preprocessor_config.json", "processor_config.json"), "no image processor"),
        (("tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt"), "no tokeniser"),
        (("model.safetensors",), "no weights of its config"),
    ],
)
def test_missing_files_are_named(files, line, folder):
    for file in files:
        (folder / file).unlink(missing_ok=True)
    assert line in refusal(folder)


def test_weights_of_another_model_are_refused(folder):
    path = folder / "model.safetensors"
    weights = load_file(path)

    def write(changed: dict[str, torch.Tensor]) -> None:
        save_file(changed, path, metadata={"format": "pt"})

    write({name: value for name, value in weights.items() if name != "text_projection.weight"})
    assert "1 weights are missing, first text_projection.weight" in refusal(folder)
    write(weights | {"head.weight": torch.ones(2)})
    assert "1 weights are unexpected, first head.weight" in refusal(folder)
    write(weights | {"logit_scale": torch.tensor(torch.nan)})
    assert "weights with NaN or infinity: 1 of" in refusal(folder)
    write(weights)
    change_config(folder, projection_dim=10**9)
    assert "the config has 1" in refusal(folder)
    (folder / "adapter_config.json").write_text("{}")
    assert "only an adapter of another model" in refusal(folder)


@pytest.mark.parametrize(
    ("processor", "line"),
    [
        (CLIPImageProcessor(do_center_crop=False), "expected square images of one size"),
        (Siglip2ImageProcessor(), r"models that read images of any shape \(NaFlex\) are not taken"),
        (EfficientNetImageProcessor(), "cannot prepare an image"),
    ],
)
def test_a_processor_that_does_more_than_fit_images_into_a_square_is_refused(processor, line, folder):
    for file in ("preprocessor_config.json", "processor_config.json"):
        (folder / file).unlink(missing_ok=True)
    processor.save_pretrained(folder)
    assert re.search(line, refusal(folder))
