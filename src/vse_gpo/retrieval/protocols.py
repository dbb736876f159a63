"""Named protocols: which queries search which gallery. The names are part of every metric's key."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch

from vse_gpo.errors import VSEError
from vse_gpo.retrieval.ranks import Ranks, fold_ranks
from vse_gpo.retrieval.recalls import Outcome, recall_outcome
from vse_gpo.retrieval.similarity import Similarities

FOLDS = 5


@dataclass(frozen=True, kw_only=True)
class Gallery:
    """The data to evaluate.

    Args:
        similarities: similarities of images and captions.
        caption_to_image: row of each caption's image.
    """

    similarities: Similarities
    caption_to_image: npt.NDArray[np.int64]

    @cached_property
    def ranks(self) -> tuple[Ranks, Ranks]:
        """Ranks in the whole gallery, and in the query's own fifth of it, from one pass."""
        images = self.similarities.image_caption.shape[0]
        index = torch.as_tensor(self.caption_to_image)
        return fold_ranks(self.similarities.image_caption, index, folds=1 if images % FOLDS else FOLDS)

    @property
    def image_count(self) -> int:
        """Number of images in the gallery."""
        return self.similarities.image_caption.shape[0]


Protocol = Callable[[Gallery], Outcome]


def run_protocols(
    test: Gallery, protocols: Sequence[str], annotated: Mapping[str, Protocol] | None = None
) -> dict[str, Outcome]:
    """{protocol: outcome} for each named protocol.

    Raises:
        VSEError: if a protocol is unknown or made for another number of images.
    """
    known = PROTOCOLS | dict(annotated or {})
    check_protocols(protocols, test.image_count, known)
    return {name: known[name](test) for name in protocols}


def check_protocols(protocols: Sequence[str], images: int, known: Iterable[str]) -> None:
    """Refuse a test that cannot be run, before any work.

    Raises:
        VSEError: if there is no protocol, one is unknown, or one is defined on another number of images, so that
            results could not be compared.
    """
    if not protocols:
        raise VSEError(f"no protocol to test by, expected some of {', '.join(known)}")
    for name in protocols:
        if name not in known:
            raise VSEError(f"unknown protocol {name}, expected some of {', '.join(known)}")
        expected = SIZES.get(name, images)
        if images != expected:
            raise VSEError(f"protocol {name} is defined on {expected} images, found {images}; use protocol all")


def whole_gallery(test: Gallery) -> Outcome:
    """Every query searches the whole gallery."""
    return recall_outcome(test.ranks[0], test.caption_to_image)


def five_folds(test: Gallery) -> Outcome:
    """Every query searches its own of five consecutive folds; results are means over the folds."""
    folds = np.arange(test.image_count) // (test.image_count // FOLDS)
    return recall_outcome(test.ranks[1], test.caption_to_image, folds)


PROTOCOLS: dict[str, Protocol] = {
    "all": whole_gallery,
    "coco_5k": whole_gallery,
    "coco_1k_5fold": five_folds,
    "f30k_1k": whole_gallery,
    "f8k_1k": whole_gallery,
}
SIZES = {"coco_5k": 5000, "coco_1k_5fold": 5000, "f30k_1k": 1000, "f8k_1k": 1000}
