"""One split of a data set: captions, images and which caption belongs to which image, all checked."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vse_gpo.errors import VSEError


@runtime_checkable
class ImageSource(Protocol):
    """The images of a split, by row: pixels (3, H, W) uint8, or region features (N, D) float."""

    def __len__(self) -> int: ...
    def __getitem__(self, row: int) -> Tensor: ...
    def name(self, row: int) -> str:
        """A file name or id that a person can find the image by."""


@runtime_checkable
class OpenImages(Protocol):
    """Opens the images of one split, given the root, the split's name and its image ids (repeats removed)."""

    def __call__(self, root: Path, split: str, ids: Sequence[str]) -> ImageSource: ...


@dataclass(frozen=True, kw_only=True)
class Split:
    """Captions in image-major order, with an explicit index of the image that each describes."""

    name: str
    captions: Sequence[str]
    caption_to_image: npt.NDArray[np.int64]  # row of the image, per caption
    image_ids: Sequence[str]
    images: ImageSource

    def __post_init__(self) -> None:
        images = len(self.images)
        if len(self.image_ids) != images:
            raise VSEError(f"{self.name}: {len(self.image_ids)} image ids for {images} images, expected one for each")
        if len(self.captions) != len(self.caption_to_image):
            raise VSEError(
                f"{self.name}: {len(self.captions)} captions but {len(self.caption_to_image)} image indices, "
                "expected one for each"
            )
        described = np.unique(self.caption_to_image)
        if len(described) != images or images == 0 or described[0] != 0 or described[-1] != images - 1:
            raise VSEError(f"{self.name}: captions describe {len(described)} of {images} images, expected all of them")

    def head(self, captions: int) -> "Split":
        """The first captions with their images, as the published dev sets are cut; all of it where it is smaller."""
        if captions >= len(self.captions):
            return self
        kept = self.caption_to_image[:captions]
        images = int(kept.max()) + 1
        return replace(
            self,
            captions=self.captions[:captions],
            caption_to_image=kept,
            image_ids=self.image_ids[:images],
            images=FirstImages(self.images, images),
        )


@dataclass(frozen=True)
class FirstImages:
    """The first rows of a source."""

    source: ImageSource
    rows: int

    def __len__(self) -> int:
        return self.rows

    def __getitem__(self, row: int) -> Tensor:
        return self.source[row]

    def name(self, row: int) -> str:
        return self.source.name(row)


class DiskDataset:
    """COCO, Flickr30K and their likes: ``precomp/{split}_caps.txt`` and ``{split}_ids.txt`` under one root.

    Args:
        root: the data set's folder.
        open_images: opens the images of a split; regions and pixels differ here alone.
    """

    def __init__(self, *, root: str, open_images: OpenImages) -> None:
        self.root = Path(root)
        self.open_images = open_images

    def split(self, name: str) -> Split:
        """Read one split.

        Raises:
            VSEError: if a file is missing, unreadable or at odds with another.
        """
        if not self.root.is_dir():
            raise VSEError(
                f"dataset.root={self.root}: no such folder; set dataset.root to the data, and see "
                f"python -m vse_gpo.check_data for what belongs there"
            )
        captions_file = self.root / "precomp" / f"{name}_caps.txt"
        ids_file = self.root / "precomp" / f"{name}_ids.txt"
        captions = read_lines(captions_file)
        image_ids, caption_to_image = match_ids(read_lines(ids_file), len(captions), ids_file)
        return Split(
            name=name,
            captions=captions,
            caption_to_image=caption_to_image,
            image_ids=image_ids,
            images=self.open_images(self.root, name, image_ids),
        )


def read_lines(path: Path) -> list[str]:
    """The lines of a UTF-8 file; only a newline ends a line.

    Raises:
        VSEError: if the file is missing, empty or not UTF-8.
    """
    try:
        text = path.read_bytes().decode("utf-8")
    except FileNotFoundError:
        raise VSEError(f"{path}: no such file; python -m vse_gpo.check_data says what belongs there") from None
    except UnicodeDecodeError as error:
        line = path.read_bytes()[: error.start].count(b"\n") + 1
        raise VSEError(f"{path}: line {line} is not UTF-8; convert the file to UTF-8") from None
    if not text:
        raise VSEError(f"{path}: the file is empty, expected one line per caption or id")
    return [line.removesuffix("\r") for line in text.removesuffix("\n").split("\n")]


def match_ids(ids: list[str], captions: int, path: Path) -> tuple[list[str], npt.NDArray[np.int64]]:
    """Image ids and the image row of each caption, from either form of an ids file.

    One id per caption names each caption's image. One id per image needs the same number of captions for each.

    Raises:
        VSEError: if the counts do not match or an image's captions are not together.
    """
    ids = [line.strip() for line in ids]
    if len(ids) == captions:
        return _match_repeated_ids(ids, path)
    per_image, rest = divmod(captions, len(ids))
    if per_image == 0 or rest:
        raise VSEError(
            f"{path}: {len(ids)} ids for {captions} captions, expected one id per caption, or one per image with "
            "the same number of captions each; see python -m vse_gpo.check_data"
        )
    if len(set(ids)) != len(ids):
        raise VSEError(f"{path}: an id occurs twice among {len(ids)} image ids, expected each once")
    return ids, np.repeat(np.arange(len(ids)), per_image)


def _match_repeated_ids(ids: list[str], path: Path) -> tuple[list[str], npt.NDArray[np.int64]]:
    rows: dict[str, int] = {}
    index = np.empty(len(ids), dtype=np.int64)
    for caption, image_id in enumerate(ids):
        index[caption] = rows.setdefault(image_id, len(rows))
        if caption and index[caption] < index[caption - 1]:
            raise VSEError(
                f"{path}: line {caption + 1} goes back to image {image_id}, expected an image's captions together"
            )
    return list(rows), index
