import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tests.golden import load
from tests.helpers.on_disk import CAPTIONS, FOLDER, listing, picture, write_images
from vse_gpo.backbones.grid import IMAGENET_STD, PixelNormalization, caffe_pixels
from vse_gpo.data.images import ImageFiles, PrepareImages, read_image, resize, to_pixels
from vse_gpo.errors import VSEError


def as_pixels(image: Image.Image | Path) -> torch.Tensor:
    if isinstance(image, Path):
        with Image.open(image) as opened:
            return as_pixels(opened)
    return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)


# files


def test_files_are_found_by_id(tmp_path: Path) -> None:
    write_images(tmp_path, list(CAPTIONS))
    images = ImageFiles(tmp_path, listing(), folder=FOLDER)
    assert len(images) == 3
    for row in range(3):
        assert images[row].shape == (3, 24, 32)
        assert (images[row].int() - as_pixels(picture(seed=row)).int()).abs().float().mean() < 4
    assert images.name(1) == "val/3.jpg"


def test_a_missing_file_is_found_before_training(tmp_path: Path) -> None:
    mapping = write_images(tmp_path, list(CAPTIONS))
    (tmp_path / FOLDER / mapping["12"]).unlink()
    with pytest.raises(VSEError, match=r"no file '12\.jpg' of train"):
        ImageFiles(tmp_path, listing(), folder=FOLDER)
    (tmp_path / "id_mapping.json").write_text(json.dumps({"7": "7.jpg"}), encoding="utf-8")
    with pytest.raises(VSEError, match="no file for image '3' and 1 more of train"):
        ImageFiles(tmp_path, listing(), folder=FOLDER)


# decoding


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.gif", "a.webp", "a.bmp", "a.tiff"])
def test_formats_decode_as_pillow_does(name: str, tmp_path: Path) -> None:
    picture().save(tmp_path / name)
    assert torch.equal(read_image(tmp_path / name), as_pixels(tmp_path / name))


@pytest.mark.parametrize(
    ("mode", "name"),
    [
        ("CMYK", "a.jpg"),
        ("L", "a.jpg"),
        ("L", "a.png"),
        ("LA", "a.png"),
        ("P", "a.png"),
        ("P", "a.gif"),
        ("RGBA", "a.png"),
        ("1", "a.png"),
    ],
)
def test_every_kind_of_colour_becomes_rgb(mode: str, name: str, tmp_path: Path) -> None:
    picture().convert(mode).save(tmp_path / name)
    pixels = read_image(tmp_path / name)
    assert pixels.dtype == torch.uint8
    assert torch.equal(pixels, as_pixels(tmp_path / name))
    if mode in ("L", "LA", "1"):
        assert torch.equal(pixels[0], pixels[1])
        assert torch.equal(pixels[0], pixels[2])


def test_sixteen_bits_become_eight(tmp_path: Path) -> None:
    grey = np.arange(0, 2**16, 64, dtype=np.uint16).reshape(32, 32)
    Image.fromarray(grey).save(tmp_path / "deep.png")
    pixels = read_image(tmp_path / "deep.png")
    assert pixels.dtype == torch.uint8
    np.testing.assert_array_equal(pixels[0], grey // 256)


@pytest.mark.parametrize(
    ("largest", "expected"),
    [(200, lambda grey: grey), (2**16 - 1, lambda grey: grey // 256), (2**20 - 1, lambda grey: grey // 2**12)],
)
def test_thirty_two_bits_become_eight(largest: int, expected: Callable[..., Any], tmp_path: Path) -> None:
    grey = np.linspace(0, largest, 32 * 32).astype(np.int32).reshape(32, 32)
    Image.fromarray(grey).save(tmp_path / "deep.tif")
    np.testing.assert_array_equal(read_image(tmp_path / "deep.tif")[0], expected(grey))


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_what_is_transparent_is_seen_over_white(mode: str, tmp_path: Path) -> None:
    drawn = Image.new("LA", (8, 6), (0, 0))  # black, all of it transparent
    drawn.paste((0, 255), (2, 2, 4, 4))
    if mode == "P":
        drawn = Image.new("P", (8, 6), 0)
        drawn.putpalette([0, 0, 0, 0, 0, 0])
        drawn.paste(1, (2, 2, 4, 4))
        drawn.info["transparency"] = 0
    drawn.convert(mode).save(tmp_path / "a.png")
    pixels = read_image(tmp_path / "a.png")
    assert pixels[:, 0, 0].tolist() == [255, 255, 255]
    assert pixels[:, 3, 3].tolist() == [0, 0, 0]


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_an_animation_gives_its_first_frame(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (8, 6), (level, level, level)) for level in (10, 200)]
    frames[0].save(tmp_path / "moving.gif", save_all=True, append_images=frames[1:])
    assert torch.equal(read_image(tmp_path / "moving.gif"), torch.full((3, 6, 8), 10, dtype=torch.uint8))


@pytest.mark.parametrize("name", ["a.jpg", "progressive.jpg", "a.png", "a.gif", "a.webp"])
@pytest.mark.parametrize("kept", [0.1, 0.5, 0.95])
def test_a_truncated_file_is_named(name: str, kept: float, tmp_path: Path) -> None:
    picture(120, 160).save(tmp_path / name, **({"progressive": True} if name == "progressive.jpg" else {}))
    data = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(data[: int(kept * len(data))])
    with pytest.raises(VSEError) as error:
        read_image(tmp_path / name)
    message = str(error.value)
    assert message.startswith(f"{tmp_path / name}: cannot be decoded (")
    assert message.endswith(f", {int(kept * len(data))} bytes); fetch it again")
    assert "\n" not in message


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (None, "no such file"),
        (b"", r"cannot be decoded \(not an image, 0 bytes\)"),
        (b"<html>not found</html>", r"cannot be decoded \(not an image, 22 bytes\)"),
    ],
)
def test_a_file_that_is_no_image(data: bytes | None, message: str, tmp_path: Path) -> None:
    if data is not None:
        (tmp_path / "a.jpg").write_bytes(data)
    with pytest.raises(VSEError, match=f"a.jpg: {message}"):
        read_image(tmp_path / "a.jpg")


# preparing


def test_evaluation_inputs_equal_the_released_programs() -> None:
    golden = load("preprocess_eval")
    colour = golden["image"].permute(2, 0, 1)
    grey = golden["gray"].expand(3, -1, -1)
    prepare = PrepareImages(size=int(golden["target_size"]))
    level = 255 * torch.tensor(IMAGENET_STD).view(3, 1, 1)  # of normalised values, in grey levels
    detector = caffe_pixels()(prepare([colour]))[0]
    imagenet, grey_imagenet = PixelNormalization()(prepare([colour, grey]))
    assert (detector - golden["detector"]).abs().max() < 1.5
    assert ((imagenet - golden["imagenet"]) * level).abs().max() < 1.5
    assert ((grey_imagenet - golden["gray_imagenet"]) * level).abs().max() < 1.5
    assert (detector - golden["detector"]).abs().mean() < 0.25  # rounding alone, no shift


@given(height=st.integers(1, 40), width=st.integers(1, 40), size=st.integers(2, 40))
def test_resize_is_bilinear_on_the_pixels_centres(height: int, width: int, size: int) -> None:
    pixels = torch.randint(0, 256, (3, height, width), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    rows, columns = ((torch.arange(size) + 0.5) * side / size - 0.5 for side in (height, width))

    def at(position: torch.Tensor, side: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        position = position.clamp(0, side - 1)
        low = position.floor().long()
        return low, (low + 1).clamp(max=side - 1), position - low

    top, bottom, down = at(rows, height)
    left, right, across = at(columns, width)
    exact = pixels.double()
    upper = exact[:, top][:, :, left] * (1 - across) + exact[:, top][:, :, right] * across
    lower = exact[:, bottom][:, :, left] * (1 - across) + exact[:, bottom][:, :, right] * across
    expected = upper * (1 - down[:, None]) + lower * down[:, None]
    assert (resize(pixels, size) - expected).abs().max() <= 1.5


@given(height=st.integers(1, 40), width=st.integers(1, 40), size=st.integers(2, 40))
def test_neither_memory_format_nor_a_flip_before_resizing_changes_a_byte(height: int, width: int, size: int) -> None:
    pixels = torch.randint(0, 256, (3, height, width), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    plain = torch.nn.functional.interpolate(pixels[None], (size, size), mode="bilinear", align_corners=False)[0]
    assert torch.equal(resize(pixels, size), plain)
    assert torch.equal(resize(pixels.flip(-1), size), plain.flip(-1))


def test_a_batch_has_its_channels_last_in_memory() -> None:
    prepare = PrepareImages(size=16)
    images = [prepare.encode(as_pixels(picture(seed=seed))) for seed in range(3)]
    batch = prepare.collate(images)
    assert torch.equal(batch, torch.stack(images))
    assert batch.is_contiguous(memory_format=torch.channels_last)


def test_training_crops_one_share_of_both_sides() -> None:
    """Pixels that hold their position tell which window was kept."""
    side = 200
    ramp = torch.linspace(0, 255, side).round().to(torch.uint8)
    pixels = torch.stack([ramp.expand(side, side), ramp[:, None].expand(side, side), torch.zeros(side, side).byte()])
    prepare = PrepareImages(size=200, crop=[0.6, 1.0])
    shares, flips = [], 0
    for seed in range(200):
        crop = prepare.encode(pixels, np.random.default_rng(seed)).float()
        across, down = crop[0, 0, -1] - crop[0, 0, 0], crop[1, -1, 0] - crop[1, 0, 0]
        assert abs(abs(across) - down) <= 4  # the same share of both sides
        shares.append(float(down) / 255)
        flips += int(across < 0)
    assert 0.58 < min(shares) < 0.64
    assert 0.96 < max(shares) <= 1.0
    assert abs(np.mean(shares) - 0.8) < 0.03
    assert 75 <= flips <= 125


@given(height=st.integers(1, 30), width=st.integers(1, 30), seed=st.integers(0, 1000))
def test_any_image_can_be_cropped(height: int, width: int, seed: int) -> None:
    pixels = torch.zeros(3, height, width, dtype=torch.uint8)
    assert PrepareImages(size=8).encode(pixels, np.random.default_rng(seed)).shape == (3, 8, 8)


def test_the_same_draws_give_the_same_pixels() -> None:
    pixels, prepare = as_pixels(picture(40, 60)), PrepareImages(size=16)
    encoded = [prepare.encode(pixels, np.random.default_rng(seed)) for seed in (3, 3, 4)]
    assert torch.equal(encoded[0], encoded[1])
    assert not torch.equal(encoded[0], encoded[2])


def test_paths_pictures_and_tensors_are_images(tmp_path: Path) -> None:
    picture().save(tmp_path / "a.png")
    same = [tmp_path / "a.png", str(tmp_path / "a.png"), picture(), as_pixels(picture())]
    batch = PrepareImages(size=16)(same)
    assert batch.shape == (4, 3, 16, 16)
    assert all(torch.equal(image, batch[0]) for image in batch)


@pytest.mark.parametrize("tensor", [torch.zeros(3, 4, 4), torch.zeros(4, 4, 3).byte(), torch.zeros(1, 3, 4, 4).byte()])
def test_a_tensor_of_another_kind_is_refused(tensor: torch.Tensor) -> None:
    with pytest.raises(VSEError, match=r"expected \(3, height, width\) uint8"):
        to_pixels(tensor)
