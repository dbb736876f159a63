"""Image files → uint8 pixels: decode, crop, resize, flip. No normalisation: each backbone does its own."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor
from torchvision.io import ImageReadMode, decode_image
from torchvision.transforms.v2.functional import pil_to_tensor

from vse_gpo.errors import VSEError

RGB = UInt8[Tensor, "3 height width"]


class ImageFiles:
    """The image files of a split, found through ``id_mapping.json``.

    Args:
        root, split, ids: see ``OpenImages``.
        folder: of the images, under the root.
    """

    def __init__(self, root: Path, split: str, ids: Sequence[str], *, folder: str) -> None:
        mapping_file = root / "id_mapping.json"
        try:
            mapping: dict[str, str] = json.loads(mapping_file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise VSEError(f"{mapping_file}: no such file, expected {{image id: file under {folder}}}") from None
        except ValueError as error:
            raise VSEError(f"{mapping_file}: not JSON ({error})") from None
        missing = [image_id for image_id in ids if image_id not in mapping]
        if missing:
            raise VSEError(f"{mapping_file}: no file for image {missing[0]} and {len(missing) - 1} more of {split}")
        self.folder = (root / folder).resolve()
        self.files = [_inside(self.folder, mapping[image_id], mapping_file) for image_id in ids]

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, row: int) -> RGB:
        return read_image(self.folder / self.files[row])

    def name(self, row: int) -> str:
        return self.files[row]


def _inside(folder: Path, name: str, source: Path) -> str:
    if Path(name).is_absolute() or ".." in Path(name).parts:
        raise VSEError(f"{source}: {name!r} leads out of {folder}, expected a file inside it")
    return name


def read_image(path: Path) -> RGB:
    """Decode a file; grey images become three equal channels.

    Raises:
        VSEError: if the file is missing, empty, truncated or no image.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise VSEError(f"{path}: {error.strerror or error}; see python -m vse_gpo.check_data") from None
    if not data:
        raise VSEError(f"{path}: the file is empty (0 bytes), expected an image; fetch it again")
    try:
        return decode_image(torch.frombuffer(bytearray(data), dtype=torch.uint8), ImageReadMode.RGB)
    except RuntimeError as error:
        raise VSEError(f"{path}: cannot be decoded ({str(error).splitlines()[0]}); fetch it again") from None


class PrepareImages:
    """Images → a batch of square uint8 pixels; the aspect ratio is not kept.

    Args:
        size: side of the result; the published grid runs use 512.
        crop: range of the share of both sides that a training crop keeps, one draw for both.
        flip: probability of a mirror image in training.
    """

    def __init__(self, *, size: int, crop: tuple[float, float] = (0.6, 1.0), flip: float = 0.5) -> None:
        self.size = size
        self.crop = crop
        self.flip = flip

    def __call__(self, images: Sequence[Any]) -> UInt8[Tensor, "batch 3 size size"]:
        """A batch for evaluation, from paths, PIL images or uint8 tensors (3, H, W)."""
        return torch.stack([self.encode(to_pixels(image)) for image in images])

    def encode(self, pixels: RGB, random: np.random.Generator | None = None) -> UInt8[Tensor, "3 size size"]:
        """Resize; with a generator, crop and flip first, as in training."""
        if random is None:
            return resize(pixels, self.size)
        _, height, width = pixels.shape
        share = random.uniform(*self.crop)
        kept_height, kept_width = max(1, int(height * share)), max(1, int(width * share))
        top = int(random.integers(height - kept_height + 1))
        left = int(random.integers(width - kept_width + 1))
        resized = resize(pixels[:, top : top + kept_height, left : left + kept_width], self.size)
        return resized.flip(-1) if random.random() < self.flip else resized

    def collate(self, images: list[Tensor]) -> Tensor:
        return torch.stack(images)


def to_pixels(image: Any) -> RGB:
    """A path, PIL image or uint8 tensor (3, H, W) as uint8 RGB."""
    if isinstance(image, Tensor):
        return image
    if isinstance(image, Image.Image):
        return pil_to_tensor(image.convert("RGB"))
    return read_image(Path(image))


def resize(pixels: RGB, size: int) -> UInt8[Tensor, "3 size size"]:
    """Bilinear without antialiasing, as OpenCV's INTER_LINEAR, rounded to bytes."""
    resized = torch.nn.functional.interpolate(pixels[None].float(), (size, size), mode="bilinear", align_corners=False)
    return resized[0].round_().clamp_(0, 255).to(torch.uint8)
