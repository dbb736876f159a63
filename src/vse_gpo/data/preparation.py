"""Protocols of the parts that make a model's inputs: images and captions → batches."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from torch import Tensor

from vse_gpo.batch import ImageInputs, Tokens
from vse_gpo.data.split import OpenImages


@runtime_checkable
class ImagePreparation(Protocol):
    """Makes the inputs of an image backbone."""

    def __call__(self, images: Sequence[Any], /) -> ImageInputs:
        """A batch for evaluation."""

    def listed(self, images: Any, /) -> Iterable[Any]:
        """One image, or any number of them, as a number of them."""

    def read(self, image: Any, /) -> Tensor:
        """One image of any kind that users have, as ``encode`` takes it."""

    def encode(self, image: Tensor, random: np.random.Generator | None = None, /) -> Tensor:
        """One image, augmented if a generator is given."""

    def collate(self, images: list[Tensor], /) -> ImageInputs:
        """A batch of encoded images."""

    def opener(self, image_folder: str, /) -> OpenImages:
        """Opener for a data set's images: its image files, or their features."""


@runtime_checkable
class CaptionPreparation(Protocol):
    """Makes the tokens of captions, and can be saved."""

    tokenizer: Any

    def __call__(self, captions: Sequence[str], /) -> Tokens:
        """A batch for evaluation."""

    def encode(self, caption: str, random: np.random.Generator | None = None, /) -> Tensor:
        """Token ids (tokens,) of one caption, noised if a generator is given."""

    def save(self, folder: Path, settings: dict[str, Any], /) -> dict[str, Any]:
        """Write the files it needs; return its settings, with these files named."""
