"""Image files → uint8 pixels: decode, crop, resize, flip. No normalisation: each backbone does its own."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from vse_gpo.data.files import HELP, Listing, find_images
from vse_gpo.data.split import OpenImages
from vse_gpo.errors import VSEError, first_line

RGB = UInt8[Tensor, "3 height width"]
ImageLike = Tensor | Image.Image | Path | str


class ImageFiles:
    """The image files of a split, found through ``id_mapping.json``; checks at once that they all exist.

    Args:
        root, listing: see ``OpenImages``.
        folder: image folder under the root.
    """

    def __init__(self, root: Path, listing: Listing, *, folder: str) -> None:
        self.folder = root / folder
        self.files = find_images(root, folder, listing)

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, row: int) -> RGB:
        return read_image(self.folder / self.files[row])

    def name(self, row: int) -> str:
        return self.files[row]


def read_image(path: Path, *, upright: bool = False, side: int | None = None) -> RGB:
    """Decode a file to pixels as ``rgb_pixels`` gives them; for an animation, its first frame.

    Args:
        path: image file.
        upright: rotate the image by its EXIF orientation; data sets are read without it.
        side: shrink the image to fit into a square of this side, in pixels; None keeps its size.

    Raises:
        VSEError: if the file is missing, empty, truncated or not an image.
    """
    try:
        with Image.open(path) as image:
            if side is not None:
                image.thumbnail((side, side))  # decodes a JPEG at a lower resolution
            return rgb_pixels(ImageOps.exif_transpose(image) if upright else image)
    except Exception as error:  # Pillow's decoders raise many types on a damaged file
        if isinstance(error, OSError) and error.strerror:
            raise VSEError(f"{path}: {error.strerror.lower()}; {HELP}") from None
        reason = "not an image" if isinstance(error, UnidentifiedImageError) else first_line(error)
        raise VSEError(f"{path}: cannot be decoded ({reason}, {path.stat().st_size} bytes); fetch it again") from None


def rgb_pixels(image: Image.Image) -> RGB:
    """Convert to 8 bits per channel; grey becomes three equal channels, transparency is dropped."""
    if image.mode.startswith("I;16"):  # Pillow would clip these to 255
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)


class PrepareImages:
    """Images → a batch of square uint8 pixels; the aspect ratio is not kept.

    Args:
        size: side of the result; the published grid runs use 512.
        crop: range of the fraction of height and width that a training crop keeps; one draw for both.
        flip: probability of a horizontal flip in training.
    """

    def __init__(self, *, size: int, crop: Sequence[float] = (0.6, 1.0), flip: float = 0.5) -> None:
        self.size = size
        self.smallest_crop, self.largest_crop = crop
        self.flip = flip

    def __call__(self, images: Sequence[ImageLike]) -> UInt8[Tensor, "batch 3 size size"]:
        """A batch for evaluation, from paths, PIL images or uint8 tensors (3, H, W)."""
        return torch.stack([self.encode(to_pixels(image)) for image in images])

    def opener(self, image_folder: str) -> OpenImages:
        """Opener for this preparation: the image files of a data set, under their folder."""
        return partial(ImageFiles, folder=image_folder)

    def encode(self, pixels: RGB, random: np.random.Generator | None = None) -> UInt8[Tensor, "3 size size"]:
        """Resize; with a generator, crop and flip first, as in training."""
        if random is None:
            return resize(pixels, self.size)
        _, height, width = pixels.shape
        share = random.uniform(self.smallest_crop, self.largest_crop)
        kept_height, kept_width = max(1, int(height * share)), max(1, int(width * share))
        top = int(random.integers(height - kept_height + 1))
        left = int(random.integers(width - kept_width + 1))
        resized = resize(pixels[:, top : top + kept_height, left : left + kept_width], self.size)
        return resized.flip(-1) if random.random() < self.flip else resized

    def collate(self, images: list[Tensor]) -> Tensor:
        return torch.stack(images)


def to_pixels(image: ImageLike) -> RGB:
    """Convert a path, PIL image or uint8 tensor (3, H, W) to uint8 RGB.

    Raises:
        VSEError: if a tensor has another shape or type, or a file cannot be read.
    """
    if isinstance(image, Image.Image):
        return rgb_pixels(image)
    if not isinstance(image, Tensor):
        return read_image(Path(image))
    if image.dtype != torch.uint8 or image.ndim != 3 or image.shape[0] != 3:
        raise VSEError(f"an image of shape {tuple(image.shape)} and {image.dtype}, expected (3, height, width) uint8")
    return image


def resize(pixels: RGB, size: int) -> UInt8[Tensor, "3 size size"]:
    """Resize bilinearly without antialiasing, equal to OpenCV's INTER_LINEAR within one grey level.

    Works on bytes: four times as fast as floats with rounding at the end.
    """
    return torch.nn.functional.interpolate(pixels[None], (size, size), mode="bilinear", align_corners=False)[0]
