"""One split of a data set: captions, images and which caption belongs to which image, all checked."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
from torch import Tensor

from vse_gpo.data.files import Listing, read_listing
from vse_gpo.data.orders import Turns
from vse_gpo.errors import VSEError

SHOWN = 3  # reasons for what is left out


class ImageReadError(VSEError):
    """An image that cannot be decoded, of a data set so large that training takes another pair in its place."""


def warn_left_out(what: str, reasons: Sequence[str], count: int) -> None:
    """Warn of a part of a split that cannot be used.

    Args:
        what: the split and how much of it, such as ``train: 2 of 9 rows``.
        reasons: the first of them, a line each.
        count: of all that is left out.
    """
    more = f"; and {count - len(reasons):,} more" if count > len(reasons) else ""
    warnings.warn(f"{what} left out: {'; '.join(reasons)}{more}", stacklevel=4)


@runtime_checkable
class ImageSource(Protocol):
    """The images of a split, by row: pixels (3, H, W) uint8, or region features (N, D) float.

    Those of a large data set may raise ``ImageReadError``.
    """

    def __len__(self) -> int: ...
    def __getitem__(self, row: int) -> Tensor: ...
    def name(self, row: int) -> str:
        """File name or id by which a person can find the image."""


@runtime_checkable
class OpenImages(Protocol):
    """Opens the images that a split's text files list."""

    def __call__(self, root: Path, listing: Listing) -> ImageSource: ...


@dataclass(frozen=True, kw_only=True)
class Split:
    """Captions in image-major order, with an explicit index of the image that each describes."""

    name: str
    captions: Sequence[str]
    caption_to_image: npt.NDArray[np.int64]  # row of the image, per caption
    image_ids: Sequence[str]
    images: ImageSource
    dense: Sequence[Sequence[str]] = ()  # long descriptions of each image, for training; empty where there are none
    turns: Turns | None = None  # the order in which training draws the pairs; None mixes them all

    def __post_init__(self) -> None:
        images = len(self.images)
        if len(self.image_ids) != images:
            raise VSEError(f"{self.name}: {len(self.image_ids)} image ids for {images} images, expected one for each")
        if len(self.captions) != len(self.caption_to_image):
            raise VSEError(
                f"{self.name}: {len(self.captions)} captions but {len(self.caption_to_image)} image indices, "
                "expected one for each"
            )
        if self.dense and len(self.dense) != images:
            raise VSEError(f"{self.name}: dense captions of {len(self.dense)} images, expected of all {images}")
        described = np.unique(self.caption_to_image)
        if len(described) != images or images == 0 or described[0] != 0 or described[-1] != images - 1:
            raise VSEError(f"{self.name}: captions describe {len(described)} of {images} images, expected all of them")

    def head(self, captions: int) -> "Split":
        """The first captions with their images, as the published dev sets are cut; the whole split if it is smaller."""
        if captions >= len(self.captions):
            return self
        kept = self.caption_to_image[:captions]
        images = int(kept.max()) + 1
        return replace(
            self,
            captions=self.captions[:captions],
            caption_to_image=kept,
            image_ids=self.image_ids[:images],
            images=SomeImages(self.images, range(images)),
            dense=self.dense[:images],
            turns=None if self.turns is None else self.turns.head(captions),
        )

    def some(self, images: npt.NDArray[np.int64]) -> "Split":
        """Some of the images, in ascending order of their rows, with all their captions; itself if they are all."""
        if len(images) == len(self.images):
            return self
        kept = np.isin(self.caption_to_image, images).nonzero()[0]
        return replace(
            self,
            captions=[self.captions[row] for row in kept.tolist()],
            caption_to_image=np.searchsorted(images, self.caption_to_image[kept]),
            image_ids=[self.image_ids[row] for row in images.tolist()],
            images=SomeImages(self.images, images.tolist()),
            dense=[self.dense[row] for row in images.tolist()] if self.dense else [],
            turns=None,
        )


@dataclass(frozen=True)
class SomeImages:
    """Some rows of a source."""

    source: ImageSource
    rows: Sequence[int]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, row: int) -> Tensor:
        return self.source[self.rows[row]]

    def name(self, row: int) -> str:
        return self.source.name(self.rows[row])


class DiskDataset:
    """A data set on disk, such as COCO or Flickr30K, in the layout of ``vse_gpo.data.files``.

    Args:
        root: the data set's folder.
        open_images: opens the images of a split; regions and pixels differ only here. None for a backbone that reads
            no files.

    Raises:
        VSEError: if ``open_images`` is None.
    """

    def __init__(self, *, root: str, open_images: OpenImages | None) -> None:
        if open_images is None:
            raise VSEError(
                f"{root}: this backbone reads no files of a data set; set experiment= or backbone= to one that does"
            )
        self.root = Path(root).expanduser()
        self.open_images = open_images

    def split(self, name: str) -> Split:
        """Read one split.

        Raises:
            VSEError: if a file is missing or unreadable, or the files do not match.
        """
        listing = read_listing(self.root, name)
        return Split(
            name=name,
            captions=listing.captions,
            caption_to_image=listing.caption_to_image,
            image_ids=listing.image_ids,
            images=self.open_images(self.root, listing),
        )
