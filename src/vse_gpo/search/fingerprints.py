"""What tells a photo from others without a model: a hash of the file, a hash of what is seen, a small image."""

import hashlib
import io
from functools import cache

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from vse_gpo.data.decoding import RGB

SIDE = 256  # of a thumbnail's square, in pixels
QUALITY = 80  # of a thumbnail as a JPEG: about 10 kB
GRID = 32  # side of the grey image that is hashed
KEPT = 8  # lowest frequencies of each direction
PLAIN = 1.0  # grey levels: an image that differs less from a plain one has no structure to be known by


def content_hash(file: io.BufferedReader) -> str:
    """SHA-256 of an open file in hexadecimal digits, as ``sha256sum`` prints it: 1.7 GB/s.

    Args:
        file: left at its beginning.
    """
    file.seek(0)
    found = hashlib.file_digest(file, "sha256").hexdigest()
    file.seek(0)
    return found


def small_image(pixels: RGB) -> UInt8[Tensor, "3 small_height small_width"]:
    """An image within the square of a thumbnail, antialiased; one that fits stays as it is.

    Args:
        pixels: of the image.
    """
    height, width = pixels.shape[1:]
    if max(height, width) <= SIDE:
        return pixels
    share = SIDE / max(height, width)
    return _resized(pixels, max(1, round(height * share)), max(1, round(width * share)))


def thumbnail_of(pixels: RGB) -> bytes:
    """An image as a JPEG.

    Args:
        pixels: of the small image.
    """
    file = io.BytesIO()
    Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(file, "JPEG", quality=QUALITY)
    return file.getvalue()


def perceptual_hash(pixels: RGB) -> int | None:
    """The 64-bit pHash of an image as a signed integer; None if it is as good as plain, so that nothing tells it apart.

    Bits say which of the 8 × 8 lowest frequencies of the 32 × 32 grey image, without the constant ones of each
    direction, are above their median. From Zauner, "Implementation and Benchmarking of Perceptual Image Hash Functions"
    (2010), section 3.2.1; https://phash.org.

    Args:
        pixels: of the image, best of the small one.
    """
    red, green, blue = _resized(pixels, GRID, GRID).numpy().astype(np.float64)
    grey = 0.299 * red + 0.587 * green + 0.114 * blue
    if np.abs(grey - grey.mean()).max() < PLAIN:
        return None
    waves = cosines()
    frequencies = waves @ grey @ waves.T
    bits = frequencies > np.median(frequencies)
    return int(np.packbits(bits).view(">i8")[0])


@cache
def cosines() -> Float[npt.NDArray[np.float64], "kept grid"]:
    """Rows 1 to 8 of the DCT-II of 32 values, up to a factor."""
    rows, columns = np.arange(1, KEPT + 1)[:, None], np.arange(GRID)[None]
    return np.cos(np.pi * rows * (2 * columns + 1) / (2 * GRID))


def _resized(pixels: RGB, height: int, width: int) -> Tensor:
    """Bytes resized with antialiasing; in place with the channels last in memory, as decoders leave them."""
    return torch.nn.functional.interpolate(
        pixels[None], (height, width), mode="bilinear", antialias=True, align_corners=False
    )[0]
