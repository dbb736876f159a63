"""What users hand to a model, and where they get one from."""

import argparse
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.helpers.small_settings import SETTINGS
from vse_gpo import VSE, VSEError
from vse_gpo.checkpoints.sources import load_model
from vse_gpo.model import build_model
from vse_gpo.storage.settings import build

ARRAY = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
CAPTIONS = ["a red circle", "a large blue square above a star"]


@pytest.fixture(scope="module")
def model() -> VSE:
    torch.manual_seed(0)
    return build_model(SETTINGS, build(SETTINGS).state_dict())


@pytest.fixture(scope="module")
def of_regions() -> VSE:
    torch.manual_seed(1)
    settings = SETTINGS | {"prepare_images": {"_target_": "vse_gpo.data.regions.PrepareRegions"}}
    settings["image_encoder"] = SETTINGS["image_encoder"] | {
        "backbone": {"_target_": "vse_gpo.backbones.images.Regions", "width": 8},
        "projection": {"_target_": "vse_gpo.encoder.ResidualProjection", "in_features": 8, "out_features": 6},
    }
    return build_model(settings, build(settings).state_dict())


@pytest.fixture
def file(tmp_path) -> Path:
    Image.fromarray(ARRAY).save(tmp_path / "a.png")
    return tmp_path / "a.png"


# images


def test_an_image_of_every_kind_gives_the_same_embedding(model, file):
    expected = model.encode_images([ARRAY])
    assert expected.shape == (1, 6)
    tensor = torch.from_numpy(ARRAY).permute(2, 0, 1)
    with Image.open(file) as opened:
        for image in (file, str(file), Image.fromarray(ARRAY), opened, ARRAY, tensor):
            assert torch.equal(model.encode_images(image), expected)
            assert torch.equal(model.encode_images([image, image]), model.encode_images(2 * [ARRAY]))


def test_images_come_from_anything_that_can_be_walked_through(model, file):
    expected = model.encode_images([ARRAY, ARRAY[::-1]])
    stacked = np.stack([ARRAY, ARRAY[::-1]])
    pixels = torch.from_numpy(stacked).permute(0, 3, 1, 2)
    for images in (stacked, pixels, tuple(stacked), (one for one in stacked)):
        assert torch.equal(model.encode_images(images), expected)
    files = np.array([str(file)] * 3)
    torch.testing.assert_close(model.encode_images(files, batch_size=2), expected[:1].expand(3, -1))


def test_grey_arrays_are_grey_images(model):
    grey = ARRAY[:, :, 0]
    assert torch.equal(model.encode_images(grey), model.encode_images(np.stack(3 * [grey], axis=2)))
    assert torch.equal(model.encode_images(grey), model.encode_images(Image.fromarray(grey)))


def test_a_read_only_array_is_read(model):
    frozen = ARRAY.copy()
    frozen.flags.writeable = False
    assert torch.equal(model.encode_images(frozen), model.encode_images(ARRAY))


def test_images_are_turned_as_their_camera_says(model, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # stored sideways
    sideways = Image.fromarray(np.rot90(ARRAY).copy())
    sideways.save(tmp_path / "phone.png", exif=exif)
    upright = model.encode_images(ARRAY)
    assert torch.equal(model.encode_images(tmp_path / "phone.png"), upright)
    with Image.open(tmp_path / "phone.png") as opened:
        assert torch.equal(model.encode_images(opened), upright)


def test_an_images_path_may_begin_at_home(model, file, monkeypatch):
    monkeypatch.setenv("HOME", str(file.parent))
    assert torch.equal(model.encode_images("~/a.png"), model.encode_images(ARRAY))


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ([ARRAY, None], r"^image 1: found None \(NoneType\), expected a path, a PIL image, an array \(height"),
        ([float("nan")], r"^image 0: found nan \(float\), expected a path"),
        ([ARRAY, ARRAY, ARRAY.astype(float)], r"^image 2: found an image of shape \(40, 50, 3\) and float64, expected"),
        (
            [ARRAY[:, :, :2]],
            r"^image 0: found an image of shape \(40, 50, 2\) and uint8, expected \(height, width, 3\)",
        ),
        ([ARRAY[:0]], r"^image 0: found an image of shape \(0, 50, 3\)"),
        ([ARRAY.transpose(2, 0, 1)], r"^image 0: found an image of shape \(3, 40, 50\) and uint8, expected \(height"),
        (torch.from_numpy(ARRAY), r"^image 0: found an image of shape \(40, 50, 3\) and torch.uint8, expected \(3, "),
        (torch.zeros(3, 40, 50), r"^image 0: found an image of shape \(3, 40, 50\) and torch.float32, expected \(3, "),
        (["missing.png"], "^image 0: missing.png: no such file or directory"),
        ([], "^nothing to encode: an empty list"),
        (iter(()), "^nothing to encode: an empty list"),
        (None, r"^found None \(NoneType\), expected an image or a list of them"),
        (3, r"^found 3 \(int\), expected an image or a list of them"),
    ],
)
@pytest.mark.parametrize("batch_size", [2, 64])
def test_an_image_that_cannot_be_read_is_named(images, message, batch_size, model):
    with pytest.raises(VSEError, match=message) as error:
        model.encode_images(images, batch_size=batch_size)
    assert "\n" not in str(error.value)


def test_a_pil_image_of_a_cut_file_is_named(model, file):
    file.write_bytes(file.read_bytes()[:500])
    with Image.open(file) as opened, pytest.raises(VSEError, match=r"^image 0: a PIL image cannot be decoded"):
        model.encode_images(opened)


def test_regions_of_an_image_come_as_tensors_or_arrays(of_regions):
    features = np.random.default_rng(0).standard_normal((2, 5, 8)).astype(np.float32)
    expected = of_regions.encode_images([torch.from_numpy(one) for one in features])
    for images in (features, torch.from_numpy(features), list(features), features.astype(">f4")):
        assert torch.equal(of_regions.encode_images(images), expected)
    one = of_regions.encode_images(features[0])
    torch.testing.assert_close(one, expected[:1])
    torch.testing.assert_close(of_regions.encode_images(features[0].astype(np.float16)), one, atol=1e-2, rtol=0)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (
            "a.jpg",
            r"image 0: found 'a' \(str\), expected region features \(regions, width\) in floats: the model takes",
        ),
        ([ARRAY], r"image 0: found array.* \(ndarray\), expected region features"),
        ([torch.ones(5, 8), torch.ones(8)], r"image 1: found shape \(8,\) of torch.float32"),
        ([torch.full((5, 8), torch.nan)], "image 0: found NaN or infinity among region features"),
        ([torch.ones(5, 7)], "region features are 7 wide"),
    ],
)
def test_regions_of_another_kind_are_named(images, message, of_regions):
    with pytest.raises(VSEError, match=message) as error:
        of_regions.encode_images(images)
    assert "\n" not in str(error.value)


# captions


def test_captions_come_alone_or_from_anything_that_can_be_walked_through(model):
    expected = model.encode_captions(CAPTIONS)
    assert expected.shape == (2, 6)
    assert expected.dtype == torch.float32
    series = type("Series", (), {"__iter__": lambda self: iter(CAPTIONS)})()  # as pandas' walks through its values
    for captions in (tuple(CAPTIONS), np.array(CAPTIONS), (one for one in CAPTIONS), dict.fromkeys(CAPTIONS), series):
        assert torch.equal(model.encode_captions(captions), expected)
    assert torch.equal(model.encode_captions(CAPTIONS[0]), model.encode_captions(CAPTIONS[:1]))
    torch.testing.assert_close(model.encode_captions(iter(CAPTIONS), batch_size=1), expected)


@pytest.mark.parametrize(
    ("captions", "message"),
    [
        ([None], r"^caption 0: found None \(NoneType\), expected a text"),
        (["a dog", float("nan")], r"^caption 1: found nan \(float\), expected a text"),
        ([b"a dog"], r"^caption 0: found b'a dog' \(bytes\), expected a text"),
        ([["a dog"]], r"^caption 0: found \['a dog'\] \(list\), expected a text"),
        ([np.arange(99).reshape(9, 11)], r"^caption 0: found array.* \(ndarray\), expected a text"),
        ([], "^nothing to encode: an empty list"),
        (None, r"^found None \(NoneType\), expected a caption or a list of them"),
    ],
)
def test_a_caption_that_is_no_text_is_named(captions, message, model):
    with pytest.raises(VSEError, match=message) as error:
        model.encode_captions(captions)
    assert "\n" not in str(error.value)


def test_a_batch_holds_at_least_one(model):
    with pytest.raises(VSEError, match="batch_size=0, expected at least 1"):
        model.encode_captions(CAPTIONS, batch_size=0)


# where a model comes from


@pytest.fixture(scope="module")
def places(model, tmp_path_factory) -> Path:
    """A folder, a run, and copies of its checkpoint under other names."""
    home = tmp_path_factory.mktemp("places")
    model.save_pretrained(home / "model")
    weights = {f"model.{name}": value for name, value in model.state_dict().items()}
    (home / "run" / "checkpoints").mkdir(parents=True)
    best = home / "run" / "checkpoints" / "best.ckpt"
    torch.save({"settings": {"model": SETTINGS}, "state_dict": weights, "epoch": 1}, best)
    for name in ("best.pt", "best.CKPT", "best", "best.pth"):
        shutil.copyfile(best, home / name)
    (home / "unfinished").mkdir()
    (home / "unfinished" / "config.yaml").write_text("name: x\n")
    (home / "empty").mkdir()
    return home


@pytest.mark.parametrize(
    "source", ["model", "run", "run/checkpoints/best.ckpt", "best.pt", "best.CKPT", "best", "best.pth"]
)
def test_a_model_comes_from_everything_that_holds_one(source, places, model, monkeypatch):
    expected = model.encode_captions(CAPTIONS)
    monkeypatch.setenv("HOME", str(places))
    for place in (places / source, str(places / source), f"~/{source}"):
        loaded = VSE.from_pretrained(place)
        assert not loaded.training
        assert torch.equal(loaded.encode_captions(CAPTIONS), expected)
    monkeypatch.chdir(places)
    assert torch.equal(load_model(source).encode_captions(CAPTIONS), expected)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("unfinished", r"unfinished/checkpoints/best\.ckpt: no such file or directory"),
        (
            "empty",
            r"empty: not a saved model .* expected vse_gpo\.json and model\.safetensors .* or a run with checkpoints",
        ),
        ("model/model.safetensors", "model.safetensors: weights without settings, expected the folder that"),
        ("missing.ckpt", r"missing\.ckpt: no such file or directory, expected a checkpoint"),
        ("missing.PT", r"missing\.PT: no such file or directory"),
        ("./missing/model", "missing/model: no such file or directory"),
        ("missing/model", "model=missing/model: neither a folder nor a model that the Hugging Face hub gives"),
    ],
)
def test_what_holds_no_model_is_told(source, message, places, monkeypatch):
    monkeypatch.chdir(places)
    with pytest.raises(VSEError, match=message) as error:
        VSE.from_pretrained(source)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("value", "message"), [(torch.nan, "NaN or infinity"), (0.0, "is zero")])
def test_a_broken_model_gives_no_embedding_and_is_neither_saved_nor_built(value, message, tmp_path):
    broken = build_model(SETTINGS, build(SETTINGS).state_dict())
    for weight in broken.text_encoder.parameters():
        weight.data.fill_(value)
    with pytest.raises(VSEError, match=f"^embedding 0 .*{message}"):
        broken.encode_captions(CAPTIONS)
    with pytest.raises(VSEError, match=r"NaN or infinity|matrices are zero"):
        build_model(SETTINGS, broken.state_dict())
    if value != 0:
        with pytest.raises(VSEError, match="weights with NaN or infinity"):
            broken.save_pretrained(tmp_path / "model")
        assert not (tmp_path / "model").exists()


@pytest.mark.parametrize(
    ("content", "held"),
    [
        ({"state_dict": {}, "epoch": 3}, "state_dict, epoch"),
        ({"state_dict": {}, "settings": {"name": "x"}}, "state_dict, settings"),
        ({"state_dict": {}, "settings": 3}, "state_dict, settings"),
        (torch.ones(2), "Tensor"),
        ({}, "dict"),
    ],
)
def test_a_file_of_something_else_is_told(content: Any, held, tmp_path):
    torch.save(content, tmp_path / "other.pt")
    with pytest.raises(VSEError, match=rf"other\.pt: not a training checkpoint, expected runs/…/.*, found {held}$"):
        VSE.from_pretrained(tmp_path / "other.pt")
    (tmp_path / "notes.txt").write_text("no checkpoint")
    with pytest.raises(VSEError, match=r"notes\.txt: "):
        VSE.from_pretrained(tmp_path / "notes.txt")


def test_a_released_file_asks_for_its_vocabulary_whatever_its_name(tmp_path):
    embedding = {"embed.weight": torch.ones(9, 3), "rnn.weight_hh_l0": torch.ones(12, 4)}
    region = {"fc.weight": torch.ones(4, 8)}
    torch.save({"model": [region, embedding], "opt": argparse.Namespace(a=1)}, tmp_path / "best.pt")
    with pytest.raises(VSEError, match="a BiGRU model needs its vocabulary"):
        VSE.from_pretrained(tmp_path / "best.pt")
