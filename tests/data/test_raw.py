"""RAW photos: the camera's preview, or half of the pixels developed, and what the photo says of itself."""

import io
from contextlib import suppress
from datetime import datetime

import numpy as np
import pytest
import torch
from PIL import Image

from tests.helpers.drawn_photos import drawn_photo
from tests.helpers.raw_files import write_dng
from vse_gpo.data.decoding import opened_image, read_image, rgb_pixels
from vse_gpo.data.raw import begins_as_raw, is_raw
from vse_gpo.errors import VSEError
from vse_gpo.search.metadata import facts_of

pytest.importorskip("rawpy", reason="rawpy is not installed")


def alike(pixels: torch.Tensor, image: Image.Image) -> float:
    """Correlation of an image with pixels of its size."""
    return float(np.corrcoef(pixels.flatten(), rgb_pixels(image).flatten())[0, 1])


@pytest.mark.parametrize("suffix", [".dng", ".jpg", ""])
def test_the_cameras_preview_is_read(suffix, tmp_path):
    scene, preview = drawn_photo(0, (800, 600)), drawn_photo(1, (640, 480))
    write_dng(tmp_path / f"a{suffix}", scene, preview=preview)
    pixels = read_image(tmp_path / f"a{suffix}")
    assert pixels.shape == (3, 480, 640)
    assert alike(pixels, preview) > 0.99


@pytest.mark.parametrize("preview", [None, (80, 60)])
def test_without_a_usable_preview_half_of_the_pixels_are_developed(preview, tmp_path):
    scene = drawn_photo(0, (800, 600))
    write_dng(tmp_path / "a.dng", scene, preview=None if preview is None else drawn_photo(1, preview))
    pixels = read_image(tmp_path / "a.dng")
    assert pixels.shape == (3, 300, 400)
    assert alike(pixels, scene.resize((400, 300), Image.Resampling.BOX)) > 0.98


def test_a_small_sensor_needs_no_large_preview(tmp_path):
    scene = drawn_photo(0, (64, 64))
    write_dng(tmp_path / "a.dng", scene, preview=scene)
    assert read_image(tmp_path / "a.dng").shape == (3, 64, 64)


@pytest.mark.parametrize("preview", [True, False])
@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_a_raw_photo_stands_as_its_camera_says(orientation, preview, tmp_path):
    scene = drawn_photo(0, (800, 600))
    write_dng(tmp_path / "a.dng", scene, preview=scene if preview else None, orientation=orientation)
    turns = {1: 0, 3: 180, 6: 270, 8: 90}[orientation]
    upright = scene.rotate(turns, expand=True)
    pixels = read_image(tmp_path / "a.dng")
    seen = upright if preview else upright.resize((upright.width // 2, upright.height // 2), Image.Resampling.BOX)
    assert alike(pixels, seen) > 0.98
    with opened_image(tmp_path / "a.dng") as (_, image):
        assert facts_of(image)[:4] == (*upright.size, datetime(2024, 5, 6, 7, 8, 9), "Own Sensor 1")


def test_other_tiffs_are_no_raw_photos(tmp_path):
    small, large = drawn_photo(0, (80, 60)), drawn_photo(1, (160, 120))
    small.save(tmp_path / "a.tif", tiffinfo={254: 1}, save_all=True, append_images=[large])
    with (tmp_path / "a.tif").open("rb") as file:
        assert is_raw(file)  # begins with a reduced image; LibRaw then finds none of a sensor
    assert read_image(tmp_path / "a.tif").shape == (3, 60, 80)
    large.save(tmp_path / "b.tif")
    with (tmp_path / "b.tif").open("rb") as file:
        assert not is_raw(file)


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (b"FUJIFILMCCD-RAW ", True), (b"IIRO\x08\0\0\0", True), (b"IIU\0\x18\0\0\0", True),
        (b"\0\0\0\x18ftypcrx \0", True),
        (b"II*\0\x10\0\0\0CR\2\0", True), (b"\0\0\0\x18ftypheic", False), (b"\xff\xd8\xff\xe1", False), (b"", False),
    ],
)  # fmt: skip
def test_raw_files_of_other_cameras_are_told_by_their_first_bytes(head, expected):
    assert begins_as_raw(head) is expected
    assert is_raw(io.BytesIO(head)) is expected


def test_damaged_raw_photos_are_told(tmp_path):
    write_dng(tmp_path / "a.dng", drawn_photo(0, (64, 48)), preview=drawn_photo(0, (64, 48)))
    whole = (tmp_path / "a.dng").read_bytes()
    random = np.random.default_rng(0)
    for _ in range(40):
        damaged = np.frombuffer(whole, np.uint8).copy()
        damaged[random.integers(6144, len(damaged), size=8)] = random.integers(256, size=8)
        (tmp_path / "a.dng").write_bytes(damaged.tobytes()[: random.integers(20, len(damaged))])
        with suppress(VSEError):
            assert read_image(tmp_path / "a.dng").shape[0] == 3
