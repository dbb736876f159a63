"""What tells a photo from others: what stays equal under which change."""

import hashlib
import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance

from tests.helpers.drawn_photos import drawn_photo
from vse_gpo.data.decoding import read_image, rgb_pixels
from vse_gpo.search.fingerprints import content_hash, cosines, perceptual_hash, small_image, thumbnail_of


def distance(one: int | None, other: int | None) -> int:
    """Bits that differ."""
    assert one is not None
    assert other is not None
    return ((one ^ other) & (2**64 - 1)).bit_count()


def phash(image: Image.Image) -> int | None:
    return perceptual_hash(small_image(rgb_pixels(image)))


def test_the_hash_of_a_file_is_sha256_whatever_was_read_of_it(tmp_path):
    (tmp_path / "a").write_bytes(bytes(range(256)) * 999)
    with (tmp_path / "a").open("rb") as file:
        file.read(77)
        assert content_hash(file) == hashlib.sha256(bytes(range(256)) * 999).hexdigest()
        assert file.tell() == 0


def test_the_cosines_are_those_of_scipys_dct():
    dct = pytest.importorskip("scipy.fft").dct
    ours = cosines()
    theirs = dct(np.eye(32), axis=0)[1:9]
    np.testing.assert_allclose(2 * ours, theirs, atol=1e-12)


def test_a_perceptual_hash_is_a_signed_number_with_half_of_its_bits_set():
    found = [perceptual_hash(rgb_pixels(drawn_photo(seed))) for seed in range(20)]
    assert all(isinstance(one, int) and -(2**63) <= one < 2**63 for one in found)
    assert {(one & (2**64 - 1)).bit_count() for one in found if one is not None} == {32}
    assert len(set(found)) == 20


def test_copies_of_an_image_have_near_hashes_and_others_far_ones():
    images = [drawn_photo(seed) for seed in range(12)]
    hashes = [phash(image) for image in images]
    for image, before in zip(images, hashes, strict=True):
        file = io.BytesIO()
        image.save(file, "JPEG", quality=40)
        copies = [
            Image.open(file),
            image.resize((image.width // 2, image.height // 2)),
            ImageEnhance.Brightness(image).enhance(0.85),
            image.convert("L"),
        ]
        assert max(distance(before, phash(copy)) for copy in copies) <= 8
    apart = [distance(one, other) for place, one in enumerate(hashes) for other in hashes[:place]]
    assert min(apart) > 10


def test_an_image_without_structure_has_no_perceptual_hash():
    assert phash(Image.new("RGB", (64, 48), (7, 90, 200))) is None
    assert phash(Image.new("RGB", (1, 1))) is None
    assert phash(Image.linear_gradient("L")) is not None


@pytest.mark.parametrize(
    ("size", "expected"), [((512, 384), (256, 192)), ((3000, 2), (256, 1)), ((100, 1024), (25, 256))]
)
def test_a_thumbnail_fits_its_square(size, expected):
    small = small_image(rgb_pixels(Image.linear_gradient("L").resize(size)))
    assert tuple(small.shape) == (3, *reversed(expected))
    with Image.open(io.BytesIO(thumbnail_of(small))) as image:
        assert (image.format, image.mode, image.size) == ("JPEG", "RGB", expected)
        assert np.abs(np.asarray(image.convert("RGB")).astype(int) - small.permute(1, 2, 0).numpy()).mean() < 3


def test_a_small_image_stays_as_it_is():
    pixels = rgb_pixels(Image.new("RGB", (256, 3), "red"))
    assert small_image(pixels) is pixels


def test_the_layout_in_memory_changes_no_bit(tmp_path: Path):
    drawn_photo(3).save(tmp_path / "a.png")
    pixels = read_image(tmp_path / "a.png")
    other = pixels.contiguous()
    assert torch.equal(small_image(other), small_image(pixels))
    assert perceptual_hash(small_image(other)) == perceptual_hash(small_image(pixels))
