"""One loader for every file that people have: orientation, transparency, depths, sizes, and files that are none."""

import io
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image, ImageOps

from tests.helpers.on_disk import picture
from vse_gpo.data import decoding
from vse_gpo.data.decoding import eight_bits, jpeg_pixels, read_image, rgb_pixels
from vse_gpo.errors import VSEError

ORIENTATION = 0x0112  # of EXIF


@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_image_is_turned_as_its_camera_says(orientation, tmp_path):
    upright = picture(24, 40)
    turned = {1: None, 2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}[orientation]  # undone by the viewer
    stored = upright if turned is None else upright.transpose(Image.Transpose(turned))
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    stored.save(tmp_path / "a.png", exif=exif)
    assert torch.equal(read_image(tmp_path / "a.png"), rgb_pixels(upright))
    assert torch.equal(read_image(tmp_path / "a.png", upright=False), rgb_pixels(stored))


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparency_lies_over_white(mode, tmp_path):
    image = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
    image.paste((0, 0, 0, 255), (2, 2, 6, 6))
    image.convert(mode).save(tmp_path / "a.png")
    pixels = read_image(tmp_path / "a.png")
    assert pixels[:, 0, 0].tolist() == [255, 255, 255]
    assert pixels[:, 4, 4].tolist() == [0, 0, 0]


def test_a_transparent_colour_lies_over_white(tmp_path):
    image = Image.new("L", (8, 8), 7)
    image.paste(200, (2, 2, 6, 6))
    image.save(tmp_path / "a.png", transparency=7)
    assert read_image(tmp_path / "a.png")[:, 0, 0].tolist() == [255, 255, 255]
    assert read_image(tmp_path / "a.png")[:, 4, 4].tolist() == [200, 200, 200]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.array([[0, 255, 256, 65535]], np.uint16), [0, 0, 1, 255]),
        (np.array([[0, 100, 255]], np.int32), [0, 100, 255]),
        (np.array([[0, 32768, 65535]], np.int32), [0, 128, 255]),
        (np.array([[-5, 0, 2**30, 2**31 - 1]], np.int32), [0, 0, 128, 255]),
        (np.array([[0.0, 0.5, 1.0]], np.float32), [0, 128, 255]),
        (np.array([[0.0, 51.0, 255.0]], np.float32), [0, 51, 255]),
        (np.array([[np.nan, np.inf, -1.0, 1.0]], np.float32), [0, 0, 0, 255]),
    ],
)
def test_deep_greys_keep_their_range(values, expected):
    assert eight_bits(values).tolist() == [expected]


@given(arrays.arrays(np.float32, (2, 3)))
def test_any_floats_become_bytes_in_their_order(values):
    found = eight_bits(values)
    finite = np.isfinite(values)
    order = np.argsort(values[finite], kind="stable")
    assert (np.diff(found[finite][order].astype(int)) >= 0).all()


def test_deep_files_are_scaled(tmp_path):
    ramp = np.linspace(0, 65535, 64, dtype=np.int32).reshape(8, 8)
    for name, values in (("i.tif", ramp), ("f.tif", (ramp / 65535).astype(np.float32))):
        Image.fromarray(values).save(tmp_path / name)
        pixels = read_image(tmp_path / name)
        assert len(pixels.unique()) == 64
        assert pixels.float().mean() == pytest.approx(127.5, abs=1)


def test_only_known_formats_are_decoded(tmp_path):
    picture().save(tmp_path / "a.eps")
    (tmp_path / "a.eps").rename(tmp_path / "a.jpg")
    with pytest.raises(VSEError, match=r"a\.jpg: cannot be decoded \(not an image"):
        read_image(tmp_path / "a.jpg")


def test_a_large_photograph_is_decoded_at_a_part_of_its_size(tmp_path, monkeypatch):
    monkeypatch.setattr(decoding, "LARGE", 100 * 100)
    monkeypatch.setattr(decoding, "LARGEST", 300 * 300)
    Image.new("RGB", (400, 240), (9, 90, 200)).save(tmp_path / "a.jpg", quality=95)
    assert read_image(tmp_path / "a.jpg").shape == (3, 60, 100)
    Image.new("RGB", (400, 200)).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png").shape == (3, 200, 400)  # below the limit
    Image.new("1", (400, 250)).save(tmp_path / "b.png")
    with pytest.raises(VSEError, match="0 megapixels, expected at most 0; save it at a smaller size"):
        read_image(tmp_path / "b.png")


def test_a_panorama_is_read(tmp_path):
    Image.new("1", (20_000, 10_000)).save(tmp_path / "pano.png")
    assert read_image(tmp_path / "pano.png", side=64).shape == (3, 32, 64)
    assert Image.MAX_IMAGE_PIXELS is not None  # Pillow's own limit is as it was


def test_what_is_no_file_is_told_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "loop.jpg").symlink_to(tmp_path / "loop.jpg")
    (tmp_path / "folder.jpg").mkdir()
    for name, message in (
        ("pipe", "not a regular file"),
        ("loop", "too many levels"),
        ("folder", "is a directory|not a regular"),
    ):
        with pytest.raises(VSEError, match=rf"{name}\.jpg: .*{message}|{name}\.jpg: {message}"):
            read_image(Path(tmp_path / f"{name}.jpg"))


# JPEGs: torchvision's pixels are Pillow's


@st.composite
def jpegs(draw: st.DrawFn) -> bytes:
    """JPEGs of every kind that Pillow writes in colour or grey, odd sizes and cameras' orientations included."""
    height, width = draw(st.integers(1, 70)), draw(st.integers(1, 70))
    random = np.random.default_rng(draw(st.integers(0, 1000)))
    cells = random.integers(0, 256, (1 + height // 4, 1 + width // 4, 3), dtype=np.uint8)
    image = Image.fromarray(cells).resize((width, height), Image.Resampling.BICUBIC)
    options: dict[str, Any] = {"subsampling": draw(st.integers(0, 2))}
    if draw(st.booleans()):
        options = {"subsampling": 0, "keep_rgb": True}  # stored as RGB instead of YCbCr
    if (orientation := draw(st.integers(0, 9))) > 0:
        exif = Image.Exif()
        exif[ORIENTATION] = orientation
        options["exif"] = exif
    if draw(st.booleans()):
        image, options = image.convert("L"), options | {"keep_rgb": False}
    file = io.BytesIO()
    image.save(
        file,
        "JPEG",
        quality=draw(st.integers(1, 100)),
        progressive=draw(st.booleans()),
        optimize=draw(st.booleans()),
        restart_marker_blocks=draw(st.integers(0, 3)),
        **options,
    )
    return file.getvalue()


def by_pillow(path: Path, *, upright: bool = True) -> torch.Tensor:
    with Image.open(path) as image:
        seen = ImageOps.exif_transpose(image) if upright else image
        return torch.from_numpy(np.array(seen.convert("RGB"))).permute(2, 0, 1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("jpegs")


@given(data=jpegs(), upright=st.booleans())
def test_a_jpeg_has_pillows_pixels_bit_for_bit(data, upright, folder):
    (folder / "a.jpg").write_bytes(data)
    assert torch.equal(read_image(folder / "a.jpg", upright=upright), by_pillow(folder / "a.jpg", upright=upright))
    with Image.open(folder / "a.jpg") as image, (folder / "a.jpg").open("rb") as file:
        assert jpeg_pixels(file, image) is not None  # by torchvision


@given(data=jpegs(), place=st.floats(0, 1), bits=st.binary(min_size=1, max_size=8), cut=st.booleans())
def test_a_damaged_jpeg_has_pillows_pixels_or_is_refused(data, place, bits, cut, folder):
    first = int(place * (len(data) - 2)) + 2
    damaged = data[:first] if cut else data[:first] + bits + data[first + len(bits) :]
    (folder / "a.jpg").write_bytes(damaged)
    try:
        expected = by_pillow(folder / "a.jpg")
    except Exception:  # Pillow raises what it likes
        with pytest.raises(VSEError, match=r"a\.jpg: cannot be decoded \("):
            read_image(folder / "a.jpg")
    else:
        assert torch.equal(read_image(folder / "a.jpg"), expected)


def test_without_torchvisions_decoder_pillow_reads(tmp_path, monkeypatch):
    picture().save(tmp_path / "a.jpg")
    expected = read_image(tmp_path / "a.jpg")
    monkeypatch.setattr(decoding, "jpeg_decoder", lambda: None)
    assert torch.equal(read_image(tmp_path / "a.jpg"), expected)


def test_pillow_reads_cmyk(tmp_path):
    picture().convert("CMYK").save(tmp_path / "a.jpg")
    with Image.open(tmp_path / "a.jpg") as image, (tmp_path / "a.jpg").open("rb") as file:
        assert jpeg_pixels(file, image) is None
    assert torch.equal(read_image(tmp_path / "a.jpg"), by_pillow(tmp_path / "a.jpg"))


def test_the_first_of_a_cameras_two_images_is_read(tmp_path):
    picture().save(tmp_path / "a.jpg", "MPO", save_all=True, append_images=[picture(seed=1)])
    assert torch.equal(read_image(tmp_path / "a.jpg"), by_pillow(tmp_path / "a.jpg"))
