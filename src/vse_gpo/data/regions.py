"""Precomputed region features, memory-mapped: opening them takes no memory and no time."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from vse_gpo.batch import Features, pad_sets
from vse_gpo.data.files import Listing, feature_rows, open_features
from vse_gpo.data.split import OpenImages
from vse_gpo.errors import VSEError, described


class RegionFiles:
    """``precomp/{split}_ims.npy``: (images, regions, width) float32 or float16, or one row per caption.

    Args:
        root, listing: see ``OpenImages``.
        width: required width of the features; None leaves the check to the backbone.
    """

    def __init__(self, root: Path, listing: Listing, *, width: int | None = None) -> None:
        self.path = root / "precomp" / f"{listing.name}_ims.npy"
        self.ids = listing.image_ids
        self.features = open_features(self.path)
        if width is not None and self.features.shape[2] != width:
            raise VSEError(
                f"{self.path}: features are {self.features.shape[2]} wide, the backbone expects {width}; "
                f"set backbone.width={self.features.shape[2]} or use the features of this backbone"
            )
        self.rows = feature_rows(len(self.features), listing, self.path)
        self._check_ids(listing)

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, row: int) -> Float[Tensor, "regions width"]:
        regions = torch.from_numpy(np.array(self.features[self.rows[row]], dtype=np.float32))
        if not torch.isfinite(regions).all():
            raise VSEError(
                f"{self.path}: row {self.rows[row]} (image {self.ids[row]}) holds NaN or infinity, expected numbers; "
                "extract or fetch the features again"
            )
        return regions

    def name(self, row: int) -> str:
        return self.ids[row]

    def _check_ids(self, listing: Listing) -> None:
        """Refuse ids that seem to name captions: right answers would count as wrong."""
        if len(self.ids) == len(listing.captions) > 1 and np.array_equal(self.features[0], self.features[1]):
            raise VSEError(
                f"{self.path}: rows 0 and 1 hold the same features, but ids {self.ids[0]} and {self.ids[1]} differ; "
                f"the ids of {listing.name} seem to name captions, expected the image's id on each line"
            )

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the memory map, which would be copied into every loader process that is not forked."""
        return self.__dict__ | {"features": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ = state | {"features": open_features(state["path"])}


class PrepareRegions:
    """Regions of images → Features. No augmentation here; the encoder does the size augmentation."""

    def __call__(self, images: Sequence[Tensor]) -> Features:
        return self.collate(list(images))

    def listed(self, images: Any) -> Iterable[Any]:
        """The regions of one image, or of any number of them, as a number of them."""
        return [images] if isinstance(images, Tensor | np.ndarray) and images.ndim == 2 else iter(images)

    def read(self, image: Any) -> Float[Tensor, "regions width"]:
        """The regions of an image as float32, from an array or tensor of floats.

        Raises:
            VSEError: if they are anything else, or hold NaN or infinity.
        """
        expected = "expected region features (regions, width) in floats: the model takes features, not images"
        if isinstance(image, np.ndarray) and image.dtype.kind == "f":
            image = torch.from_numpy(image.astype(np.float32))
        if not isinstance(image, Tensor):
            raise VSEError(f"found {described(image)}, {expected}")
        if not image.is_floating_point() or image.ndim != 2 or not image.numel():
            raise VSEError(f"found shape {tuple(image.shape)} of {image.dtype}, {expected}")
        if not image.isfinite().all():
            raise VSEError("found NaN or infinity among region features, expected numbers")
        return image.float().cpu()

    def opener(self, image_folder: str) -> OpenImages:
        """Opener for this preparation: the features of a data set; the image folder is not used."""
        return RegionFiles

    def encode(self, regions: Tensor, _random: np.random.Generator | None = None) -> Tensor:
        """The regions as they are.

        Raises:
            VSEError: if they are pixels.
        """
        if regions.ndim != 2:
            raise VSEError(
                f"found an image of shape {tuple(regions.shape)}, expected region features (regions, width): this data "
                "set gives images, and the backbone reads features; set backbone= to one that reads images"
            )
        return regions

    def collate(self, images: list[Tensor]) -> Features:
        return Features(*pad_sets(images))
