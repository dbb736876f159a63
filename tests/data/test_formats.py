"""Images are told by their content, whatever they are called."""

import io
import os
from contextlib import suppress

import numpy as np
import pytest
import torch
from PIL import Image, features

from tests.helpers.drawn_photos import drawn_photo
from tests.helpers.raw_files import write_dng
from vse_gpo.data import formats, raw
from vse_gpo.data.decoding import read_image, rgb_pixels
from vse_gpo.data.formats import BEGINNING, begins_as_image, image_suffixes, missing_reader
from vse_gpo.errors import VSEError
from vse_gpo.search.metadata import facts_of

pillow_heif = pytest.importorskip("pillow_heif", reason="pillow-heif is not installed")
WRITTEN = ["AVIF", "BMP", "GIF", "HEIF", "ICO", "JPEG", "JPEG2000", "MPO", "PNG", "PPM", "TIFF", "WEBP"]


@pytest.mark.parametrize("kind", [kind for kind in WRITTEN if kind != "AVIF" or features.check("avif")])
@pytest.mark.parametrize("suffix", [".heic", ".png", ""])
def test_every_format_is_read_whatever_its_name(kind, suffix, tmp_path):
    image = drawn_photo(1, (64, 48))
    image.save(tmp_path / f"a{suffix}", kind)
    head = (tmp_path / f"a{suffix}").read_bytes()[:BEGINNING]
    assert begins_as_image(head)
    pixels = read_image(tmp_path / f"a{suffix}")
    if kind not in ("GIF", "ICO"):  # fewer colours; squares
        assert (pixels.float() - rgb_pixels(image).float()).abs().mean() < 12


@pytest.mark.parametrize(
    "data",
    [b"", b"B", b"a text", b"%PDF-1.4", b"%!PS-Adobe-3.0", b"\0\0\0\x18ftypmp42\0\0\0\0", b"PK\3\4", b"\xff\xfb\x90"],
)
def test_other_files_do_not_begin_as_images(data):
    assert not begins_as_image(data[:BEGINNING])


def test_suffixes_are_those_of_the_formats():
    assert {
        ".jpg",
        ".jpeg",
        ".png",
        ".heic",
        ".hif",
        ".avif",
        ".mpo",
        ".cr2",
        ".dng",
        ".nef",
        ".arw",
    } <= image_suffixes()
    assert not {".pdf", ".eps", ".txt", ".mp4", ".mov", ""} & image_suffixes()


def heic(image: Image.Image, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, "HEIF", quality=90, **options)
    return file.getvalue()


@pytest.mark.parametrize("orientation", [1, 6])
def test_a_heic_photo_is_turned_once(orientation, tmp_path):
    upright = drawn_photo(2, (96, 64))
    stored = upright.transpose(Image.Transpose.ROTATE_90) if orientation == 6 else upright
    exif = Image.Exif()
    exif[0x0112], exif[0x0110] = orientation, "iPhone 13"
    (tmp_path / "a.heic").write_bytes(heic(stored, exif=exif.tobytes()))
    pixels = read_image(tmp_path / "a.heic")
    assert pixels.shape == (3, 64, 96)
    assert (pixels.float() - rgb_pixels(upright).float()).abs().mean() < 8
    with Image.open(tmp_path / "a.heic") as image:
        assert facts_of(image)[:4] == (96, 64, None, "iPhone 13")


def test_ten_bits_and_transparency_of_heic(tmp_path):
    image = Image.new("RGBA", (64, 64), (0, 0, 0, 0))
    image.paste((200, 30, 30, 255), (16, 16, 48, 48))
    (tmp_path / "a.heic").write_bytes(heic(image))
    pixels = read_image(tmp_path / "a.heic")
    assert pixels[:, 4, 4].tolist() == [255, 255, 255]
    torch.testing.assert_close(pixels[:, 32, 32].float(), torch.tensor([200.0, 30.0, 30.0]), atol=6, rtol=0)
    deep = np.full((64, 64, 3), 4 * 4096, np.uint16)
    pillow_heif.encode("RGB;16", (64, 64), deep.tobytes(), tmp_path / "b.heic", quality=90)
    assert abs(read_image(tmp_path / "b.heic").float().mean() - 64) < 2


def test_damaged_heic_is_told(tmp_path):
    whole = heic(drawn_photo(1, (64, 48)))
    random = np.random.default_rng(0)
    for number in range(40):
        damaged = np.frombuffer(whole[: random.integers(20, len(whole))], np.uint8).copy()
        damaged[random.integers(len(damaged), size=number % 4)] = 7
        (tmp_path / "a.heic").write_bytes(damaged.tobytes())
        with suppress(VSEError):
            assert read_image(tmp_path / "a.heic").shape[0] == 3


def test_what_must_be_installed_is_told(tmp_path, monkeypatch):
    (tmp_path / "a.jpg").write_bytes(heic(drawn_photo(1, (64, 48))))
    write_dng(tmp_path / "b.dng", drawn_photo(1, (64, 48)))
    drawn_photo(1, (64, 48)).save(tmp_path / "c.tif")
    monkeypatch.setattr(formats, "pillow_heif", None)
    monkeypatch.setattr(raw, "rawpy", None)
    with pytest.raises(
        VSEError, match=r"a\.jpg: a HEIC photo, which needs pillow-heif \(pip install 'vse_gpo\[search\]'\)$"
    ):
        read_image(tmp_path / "a.jpg")
    with pytest.raises(VSEError, match=r"b\.dng: a RAW photo, which needs rawpy \(pip install 'vse_gpo\[raw\]'\)$"):
        read_image(tmp_path / "b.dng")
    assert read_image(tmp_path / "c.tif").shape == (3, 48, 64)
    with (tmp_path / "c.tif").open("rb") as file:
        assert missing_reader(file) is None
        assert file.tell() == os.SEEK_SET
