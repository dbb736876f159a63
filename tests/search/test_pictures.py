"""Every kind of file in a folder of one's own: what is decoded, and what is passed over with which reason."""

import errno
import hashlib
import io
import os
import socket
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, features

from tests.helpers.drawn_photos import drawn_photo
from tests.helpers.photo_folder import paint, small_model
from vse_gpo.data.encoding import Encoding
from vse_gpo.data.images import PrepareImages
from vse_gpo.search.fingerprints import perceptual_hash, small_image
from vse_gpo.search.pictures import SPECIAL, FilePixels, embed_pictures, find_pictures, open_picture
from vse_gpo.search.stored import Picture

AVIF = pytest.mark.skipif(not features.check("avif"), reason="this Pillow reads no AVIF")

HERE = Encoding(batch_size=3, workers=0, devices=[torch.device("cpu")])


def embedded(folder: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Every picture's embedding by name, and the reasons for the others."""
    found = find_pictures(folder)
    rows: dict[str, torch.Tensor] = {}
    skipped = dict(found.skipped)
    for batch in embed_pictures(small_model(), folder, found.pictures, HERE):
        rows |= dict(zip([picture.file for picture in batch.pictures], batch.embeddings, strict=True))
        skipped |= batch.skipped
    return rows, skipped


def test_pictures_of_every_kind_are_embedded_as_the_model_does(tmp_path):
    paint(tmp_path / "a.jpg", 1)
    paint(tmp_path / "cmyk.jpg", 2, "CMYK")
    paint(tmp_path / "palette.png", 3, "P")
    paint(tmp_path / "deep" / "with space" / "grey.webp", 4, "L")
    paint(tmp_path / "alpha.PNG", 5, "RGBA")
    Image.fromarray(np.arange(1200, dtype=np.uint16).reshape(30, 40) * 50).save(tmp_path / "sixteen.png")
    frames = [Image.new("RGB", (20, 20), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "moving.gif", save_all=True, append_images=frames[1:])
    rows, skipped = embedded(tmp_path)
    assert skipped == {}
    assert len(rows) == 7
    expected = small_model().encode_images([tmp_path / file for file in rows])
    torch.testing.assert_close(torch.stack([*rows.values()]), expected, atol=1e-6, rtol=0)


def test_what_else_is_read_of_a_photo_comes_with_its_embedding(tmp_path):
    paint(tmp_path / "a.jpg", 1)
    (tmp_path / "b.jpg").write_bytes(b"")
    paint(tmp_path / "c.tif", 2)
    drawn_photo(0, (600, 300)).save(tmp_path / "d.png")
    found = find_pictures(tmp_path).pictures
    [batch, last] = embed_pictures(small_model(), tmp_path, found, HERE)
    assert [picture.file for picture in batch.pictures] == ["a.jpg", "c.tif"]
    read = dict(zip("acd", [*batch.photos, *last.photos], strict=True))
    for picture in [*batch.pictures, *last.pictures]:
        photo = read[picture.file[0]]
        assert photo.hash == hashlib.sha256((tmp_path / picture.file).read_bytes()).hexdigest()
        assert photo.phash == perceptual_hash(small_image(open_picture(tmp_path / picture.file)))
    assert [(photo.facts.width, photo.facts.height) for photo in read.values()] == [(40, 30), (40, 30), (600, 300)]
    assert read["a"].thumbnail is None  # a browser shows the file itself
    for name, size in (("c", (40, 30)), ("d", (256, 128))):
        with Image.open(io.BytesIO(read[name].thumbnail or b"")) as thumbnail:
            assert thumbnail.size == size


def odd_exif() -> bytes:
    """A JPEG to be turned, whose width is a word: Pillow could not write such a thing."""
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "a camera"
    file = io.BytesIO()
    Image.new("RGB", (4, 4)).save(file, "jpeg", exif=exif)
    return file.getvalue().replace(b"\x01\x0f\x00\x02", b"\x01\x00\x00\x02")


def bomb() -> bytes:
    """The head of a PNG of 60,000 × 60,000 pixels."""
    file = io.BytesIO()
    Image.new("L", (1, 1)).save(file, "png")
    head = bytearray(file.getvalue())
    head[16:24] = struct.pack(">II", 60_000, 60_000)
    head[29:33] = struct.pack(">I", zlib.crc32(head[12:29]))
    return bytes(head)


def test_files_that_cannot_be_read_are_told_with_the_reason(tmp_path):
    whole = paint(tmp_path / "good.png", 1).read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "text.jpg").write_text("no picture at all")
    (tmp_path / "bomb.png").write_bytes(bomb())
    (tmp_path / "odd.jpg").write_bytes(odd_exif())
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere.png")
    (tmp_path / "out.png").symlink_to("/etc/hostname")
    (tmp_path / "notes.txt").write_text("passed over")
    paint(tmp_path / ".thumbnails" / "hidden.png", 2)
    (tmp_path / "more").symlink_to(tmp_path.parent)
    rows, skipped = embedded(tmp_path)
    assert sorted(rows) == ["good.png", "odd.jpg"]
    assert skipped.keys() == {"cut.png", "empty.jpg", "text.jpg", "bomb.png", "gone.png", "out.png", "more"}
    assert skipped["more"] == "a linked folder, which is not entered"
    assert "not an image, 0 bytes" in skipped["empty.jpg"]
    assert "not an image, 17 bytes" in skipped["text.jpg"]
    assert "3600 megapixels, expected at most 268" in skipped["bomb.png"]
    assert "leads out of" in skipped["out.png"]
    assert skipped["gone.png"] == "no such file or directory"
    assert find_pictures(tmp_path).others == {".txt": 1}


@pytest.mark.parametrize("suffix", ["png", "jpg", "gif", "bmp", "tiff", "webp", pytest.param("avif", marks=AVIF)])
def test_no_damage_stops_an_index(suffix, tmp_path):
    whole = paint(tmp_path / f"picture.{suffix}", 1).read_bytes()
    random = np.random.default_rng(0)
    for number in range(60):
        damaged = np.frombuffer(whole, np.uint8).copy()
        places = random.integers(min(len(damaged), 400), size=1 + number % 8)
        damaged[places] = random.integers(256, size=len(places))
        (tmp_path / f"{number}.{suffix}").write_bytes(damaged.tobytes())
    pixels = FilePixels(tmp_path, find_pictures(tmp_path).pictures, PrepareImages(size=8))
    assert all(isinstance(item, str | torch.Tensor) for _, item, _ in (pixels[row] for row in range(len(pixels))))


def test_a_picture_stands_as_its_camera_says(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    pixels = np.random.default_rng(0).integers(256, size=(2, 4, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "turned.png", exif=exif)
    expected = torch.from_numpy(np.rot90(pixels, -1).copy()).permute(2, 0, 1)
    assert torch.equal(open_picture(tmp_path / "turned.png"), expected)


def test_pipes_sockets_devices_and_loops_are_skipped_without_being_opened(tmp_path):
    (tmp_path / "loop.png").symlink_to(tmp_path / "loop.png")
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "again").symlink_to(tmp_path)
    (tmp_path / "null.png").symlink_to("/dev/null")
    for name in ("pipe.png", "pipe"):
        os.mkfifo(tmp_path / name)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.path.relpath(tmp_path / "socket.png"))
    found = find_pictures(tmp_path)
    assert found.pictures == []
    assert found.skipped == {
        "loop.png": "too many levels of symbolic links",
        "tree/again": "a linked folder, which is not entered",
        **dict.fromkeys(["null.png", "pipe.png", "pipe", "socket.png"], SPECIAL),
    }
    pipe = Picture("pipe.png", 0, 0)  # one that took an image's place since
    [batch] = embed_pictures(small_model(), tmp_path, [pipe], HERE)
    assert batch.skipped == {"pipe.png": "not a regular file, expected an image"}


def test_names_that_are_not_unicode_are_skipped_with_a_reason(tmp_path):
    paint(tmp_path / "good.png", 1)
    folder = os.fsencode(tmp_path)
    for name in (b"caf\xe9.png", b"caf\xe9.txt"):
        Path(os.fsdecode(folder + b"/" + name)).write_bytes((tmp_path / "good.png").read_bytes())
    deep = Path(os.fsdecode(folder + b"/\xff"))
    paint(deep / "a.png", 1)
    found = find_pictures(tmp_path)
    assert [picture.file for picture in found.pictures] == ["good.png"]
    reason = "its name is not UTF-8; rename it"
    assert found.skipped == dict.fromkeys(["caf\udce9.png", "caf\udce9.txt", "\udcff/a.png"], reason)


def test_images_are_found_whatever_they_are_called(tmp_path):
    jpeg = paint(tmp_path / "a.jpg", 1).read_bytes()
    for name in ("b.png", "c.heic", "d", "e.backup", "deep/f.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(jpeg)
    for number, start in enumerate((b"", b"BM and more text", b"P1 is a post code", b"II*\0", b"\0\0\1\0", jpeg[:8])):
        (tmp_path / f"{number}.dat").write_bytes(start)
    (tmp_path / "text.jpg").write_text("no image")
    rows, skipped = embedded(tmp_path)
    assert sorted(rows) == ["a.jpg", "b.png", "c.heic", "d", "deep/f.txt", "e.backup"]
    assert all(torch.equal(row, rows["a.jpg"]) for row in rows.values())
    assert skipped == {"text.jpg": "cannot be decoded (not an image, 8 bytes)"}
    assert find_pictures(tmp_path).others == {".dat": 6}


def test_a_folder_that_may_not_be_read_is_told(tmp_path, monkeypatch):
    paint(tmp_path / "a.jpg", 1)
    (tmp_path / "closed").mkdir()
    scan = os.scandir

    def refusing(path: Path) -> object:
        if path == tmp_path / "closed/":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refusing)  # whoever runs the tests may be root
    found = find_pictures(tmp_path)
    assert [picture.file for picture in found.pictures] == ["a.jpg"]
    assert found.skipped == {"closed": "permission denied"}
