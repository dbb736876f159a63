"""Precomputed region features, memory-mapped: opening them takes no memory and no time."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from vse_gpo.batch import Features, pad_sets
from vse_gpo.data.files import Listing, feature_rows, open_features
from vse_gpo.data.split import OpenImages
from vse_gpo.errors import VSEError


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

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the memory map, which would be copied into every loader process that is not forked."""
        return self.__dict__ | {"features": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ = state | {"features": open_features(state["path"])}


class PrepareRegions:
    """Regions of images → Features. No augmentation here; the encoder does the size augmentation."""

    def __call__(self, images: Sequence[Tensor]) -> Features:
        return self.collate(list(images))

    def opener(self, image_folder: str) -> OpenImages:
        """Opener for this preparation: the features of a data set; the image folder is not used."""
        return RegionFiles

    def encode(self, regions: Tensor, _random: np.random.Generator | None = None) -> Tensor:
        return regions

    def collate(self, images: list[Tensor]) -> Features:
        return Features(*pad_sets(images))
