"""Images prepared by the image processors of Hugging Face; see also ``tests/checkpoints/test_dual.py``."""

import pickle

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import CLIPImageProcessor, SiglipImageProcessor

from vse_gpo.data.images import to_pixels
from vse_gpo.data.processors import ProcessorImages
from vse_gpo.errors import VSEError

CLIP = CLIPImageProcessor(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16}).to_dict()
SIGLIP = SiglipImageProcessor(size={"height": 16, "width": 16}).to_dict()


def stripes(width: int, height: int) -> torch.Tensor:
    """Left half black, right half white."""
    pixels = torch.zeros(3, height, width, dtype=torch.uint8)
    pixels[:, :, width // 2 :] = 255
    return pixels


def test_clip_crops_the_centre_and_siglip_squashes():
    wide = stripes(128, 16)
    wide[:, :, :32] = 90  # outside the centre
    cropped, squashed = (ProcessorImages(processor=each).encode(wide) for each in (CLIP, SIGLIP))
    assert not (cropped == 90).any()
    assert (squashed[0, :, 1] == 90).all()
    for made in (cropped, squashed):
        assert made.shape == (3, 16, 16)
        assert made.dtype == torch.uint8


def test_pixels_are_within_a_grey_level_of_pillows():
    draws = np.random.default_rng(0)
    image = Image.fromarray(draws.integers(256, size=(60, 90, 3), dtype=np.uint8))
    pillows = np.asarray(image.resize((16, 16), Image.Resampling.BICUBIC)).astype(int)
    made = ProcessorImages(processor=SIGLIP).encode(to_pixels(image)).permute(1, 2, 0).numpy()
    assert np.abs(made - pillows).max() <= 1


def test_training_crops_and_flips_before_the_processor():
    prepare = ProcessorImages(processor=SIGLIP, crop=(0.5, 0.6), flip=1.0)
    made = prepare.encode(stripes(64, 64), np.random.default_rng(0))
    assert made.shape == (3, 16, 16)
    assert made[0, 0, 0] > made[0, 0, -1]  # flipped
    whole = ProcessorImages(processor=SIGLIP, crop=(1.0, 1.0), flip=0.0)
    assert torch.equal(whole.encode(stripes(64, 64), np.random.default_rng(0)), whole.encode(stripes(64, 64)))


def test_loader_processes_get_the_processor():
    prepare = ProcessorImages(processor=CLIP)
    again = pickle.loads(pickle.dumps(prepare))  # noqa: S301, made here
    assert torch.equal(again.encode(stripes(40, 30)), prepare.encode(stripes(40, 30)))


def test_settings_that_describe_no_processor_give_one_line():
    for settings in ({}, {"image_processor_type": "MadeUp"}, {"auto_map": {"AutoImageProcessor": "code.C"}}):
        with pytest.raises(VSEError, match="not an image processor") as error:
            ProcessorImages(processor=settings)
        assert "\n" not in str(error.value)
    with pytest.raises(VSEError, match=r"cannot prepare an image|expected square images"):
        ProcessorImages(processor=CLIP | {"size": {"height": 0, "width": 4}})


def test_what_comes_after_the_pixels_is_read_and_proved(monkeypatch):
    prepare = ProcessorImages(processor=CLIP)
    assert prepare.normalization()["mean"] == [*CLIP["image_mean"]]
    assert prepare.normalization()["scale"] == pytest.approx(255)
    assert ProcessorImages(processor=CLIP | {"do_rescale": False}).normalization()["scale"] == 1.0
    plain = ProcessorImages(processor=CLIP | {"do_normalize": False}).normalization()
    assert (plain["mean"], plain["std"]) == ([0.0] * 3, [1.0] * 3)
    own = prepare.processor.__class__.__call__
    monkeypatch.setattr(prepare.processor.__class__, "__call__", lambda *args, **named: _doubled(own(*args, **named)))
    with pytest.raises(VSEError, match="does more than resize, crop, rescale and normalise"):
        prepare.normalization()


def _doubled(made):
    pixels = made["pixel_values"]
    return {"pixel_values": 2 * pixels if pixels.is_floating_point() else pixels}
