"""Image files → uint8 RGB pixels: the one loader of training, library, extraction and index."""

import os
import stat
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from io import BufferedReader, BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import UInt8
from PIL import ExifTags, Image, UnidentifiedImageError
from torch import Tensor

from vse_gpo.data.files import HELP
from vse_gpo.data.formats import FORMATS, missing_reader
from vse_gpo.errors import VSEError, first_line

ImageFile = BufferedReader | BytesIO
RGB = UInt8[Tensor, "3 height width"]

JPEGS = {"JPEG", "MPO"}  # a JPEG that more images follow is an MPO
LARGEST = 2**28  # pixels that are decoded at most
LARGE = 2**26  # pixels from which on a JPEG is decoded at a half, a quarter or an eighth of its size
# EXIF's orientation → axes to flip, after height and width were swapped from 5 on
TURNS = {2: [2], 3: [1, 2], 4: [1], 5: [], 6: [2], 7: [1, 2], 8: [1]}
SIDEWAYS = range(5, 9)
_limit = threading.Lock()  # Pillow keeps its own limit in a global


def read_image(path: Path, *, upright: bool = True, side: int | None = None) -> RGB:
    """Decode a file as ``decoded`` does.

    Args:
        path: of a regular file.
        upright: turn the image as its camera says; the released programs do not.
        side: of the square that the image is to fit in, in pixels; None keeps its size.

    Raises:
        VSEError: if the file is missing, empty, truncated, too large or not an image.
    """
    with opened_image(path) as (file, image):
        return decoded(file, image, upright=upright, side=side)


def image_from(data: bytes, name: str, *, upright: bool = True) -> RGB:
    """Decode the bytes of a file as ``read_image`` does the file.

    Args:
        data: all of them.
        name: of the image, for the message.
        upright: see ``read_image``.

    Raises:
        VSEError: if they are empty, truncated, too large or not an image.
    """
    file = BytesIO(data)
    with image_in(file, name) as image:
        return decoded(file, image, upright=upright)


@contextmanager
def opened_image(path: Path) -> Iterator[tuple[BufferedReader, Image.Image]]:
    """A regular file and its image, not yet decoded; what is no file is not opened: a pipe would never answer.

    Args:
        path: of a regular file.

    Raises:
        VSEError: if it is missing, not a regular file, not an image or too large, or what is done with it fails.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise VSEError(f"{path}: not a regular file, expected an image")
        with path.open("rb") as file, image_in(file, path) as image:
            yield file, image
    except OSError as error:
        raise VSEError(f"{path}: {(error.strerror or str(error)).lower()}; {HELP}") from None


@contextmanager
def image_in(file: ImageFile, name: object) -> Iterator[Image.Image]:
    """The image of an open file, not yet decoded.

    Args:
        file: read from its beginning.
        name: of the image, for the message.

    Raises:
        VSEError: if it is not an image or too large, or what is done with it fails.
    """
    try:
        if (missing := missing_reader(file)) is not None:
            raise VSEError(f"{name}: {missing}")
        with _limit, warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
            try:
                image = Image.open(file, formats=FORMATS)
            finally:
                Image.MAX_IMAGE_PIXELS = before
        with image:
            _check_size(image, name)
            yield image
    except VSEError:
        raise
    except Exception as error:  # Pillow's decoders raise what they like on a damaged file
        if isinstance(error, OSError) and error.strerror:
            raise
        reason = "not an image" if isinstance(error, UnidentifiedImageError) else first_line(error)
        size = file.seek(0, os.SEEK_END)
        raise VSEError(f"{name}: cannot be decoded ({reason}, {size} bytes); fetch it again") from None


def _check_size(image: Image.Image, name: object) -> None:
    """Refuse what has too many pixels.

    Raises:
        VSEError: if it does.
    """
    pixels = image.width * image.height
    if pixels // _share(image) ** 2 > LARGEST:
        raise VSEError(
            f"{name}: {pixels / 1e6:.0f} megapixels, expected at most {LARGEST / 1e6:.0f}; save it at a smaller size"
        )


@cache
def jpeg_decoder() -> Callable[[Tensor], Tensor] | None:
    """torchvision's decoder of JPEGs in RGB; None if the installed version has none.

    Call it before loader processes start, so that they do not import torchvision one by one.
    """
    try:
        from torchvision.io import ImageReadMode, decode_jpeg  # noqa: PLC0415, two seconds, and a text needs none of it
    except ImportError:  # deprecated since torchvision 0.29; Pillow gives the same pixels in up to 1.7 times the time
        return None
    return partial(decode_jpeg, mode=ImageReadMode.RGB)


def _share(image: Image.Image) -> int:
    """The part of its size that an image is decoded at; only the decoder of JPEGs can do so."""
    if image.format not in JPEGS:
        return 1
    return next((share for share in (1, 2, 4) if image.width * image.height <= LARGE * share**2), 8)


def decoded(file: ImageFile, image: Image.Image, *, upright: bool = True, side: int | None = None) -> RGB:
    """Pixels of an opened image as ``rgb_pixels`` gives them; of an animation the first frame.

    Args:
        file, image: as ``opened_image`` gives them.
        upright, side: see ``read_image``.
    """
    if side is None and (pixels := jpeg_pixels(file, image)) is not None:
        return turned(pixels, image) if upright else pixels
    if (share := _share(image)) > 1:
        image.draft(None, (image.width // share, image.height // share))
    if side is not None:
        image.thumbnail((side, side))  # decodes a JPEG at no more than it needs
    return rgb_pixels(image, upright=upright)


def jpeg_pixels(file: ImageFile, image: Image.Image) -> RGB | None:
    """Pixels of a JPEG as it is stored, by torchvision, bit for bit those of Pillow: both decode by libjpeg-turbo.

    None if the file is of another kind, damaged, CMYK or so large that it is decoded at a part of its size: Pillow then
    reads it, or says what is wrong with it.

    Args:
        file: the open file.
        image: what Pillow made of its header.
    """
    is_plain = image.format in JPEGS and image.mode in ("RGB", "L")
    if not is_plain or image.width * image.height > LARGE or (decode := jpeg_decoder()) is None:
        return None
    file.seek(0)
    data = torch.frombuffer(bytearray(file.read()), dtype=torch.uint8)
    try:
        return decode(data)
    except RuntimeError:
        return None


def turned(pixels: RGB, image: Image.Image) -> UInt8[Tensor, "3 seen_height seen_width"]:
    """An image's stored pixels as its camera says that they are seen; an orientation without a meaning is ignored."""
    orientation = orientation_of(image)
    if orientation not in TURNS:
        return pixels
    return (pixels.transpose(1, 2) if orientation in SIDEWAYS else pixels).flip(TURNS[orientation])


def orientation_of(image: Image.Image) -> int | None:
    """EXIF's orientation; None if it says none, or is too damaged to be read."""
    try:
        return image.getexif().get(ExifTags.Base.Orientation)
    except Exception:  # Pillow raises what it likes
        return None


def seen_size(image: Image.Image) -> tuple[int, int]:
    """Width and height of an opened image as it is seen; Pillow itself turns a TIFF.

    Args:
        image: not yet decoded.
    """
    width, height = image.size
    is_sideways = image.format != "TIFF" and orientation_of(image) in SIDEWAYS
    return (height, width) if is_sideways else (width, height)


def rgb_pixels(image: Image.Image, *, upright: bool = True) -> RGB:
    """Eight bits a channel: grey becomes three equal channels, transparency lies over white, deep values are scaled."""
    image.load()  # some formats say how they are turned behind their pixels
    stored = image
    if image.mode.startswith("I") or image.mode == "F":
        image = Image.fromarray(eight_bits(np.asarray(image)))
    if image.has_transparency_data:
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
    pixels = torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)
    return turned(pixels, stored) if upright else pixels


def eight_bits(values: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Deeper greys in eight bits, by the range that they seem to use; below 0 is black, NaN too.

    16-bit greys have their own range. For others it is 0–255, 0–65,535 or what the largest value needs; for floats 0–1
    comes first.
    """
    if values.dtype.kind in "ui":
        largest = 2**16 - 1 if values.dtype.itemsize == 2 else int(values.max(initial=0))
        shift = max(8, largest.bit_length() - 8) if largest > 255 else 0
        return (values.clip(min=0) >> shift).astype(np.uint8)
    numbers = np.nan_to_num(values.astype(np.float64), posinf=0.0, neginf=0.0)
    largest_float = numbers.max(initial=0.0)
    full = next((full for full in (1.0, 255.0, 65535.0) if largest_float <= full), largest_float)
    return np.clip(numbers / full * 255.0, 0, 255).round().astype(np.uint8)
