"""Named protocols: which queries search which gallery. The names are part of every metric's key."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch

from vse_gpo.errors import VSEError
from vse_gpo.retrieval.counts import Pairs
from vse_gpo.retrieval.hubness import Beside, Correction
from vse_gpo.retrieval.ranks import Ranks, best_positive_ranks, check_index, fold_ranks, row_ranks
from vse_gpo.retrieval.recalls import Outcome, recall_outcome
from vse_gpo.retrieval.similarity import Similarities, Similarity

FOLDS = 5
PLUS = "+"  # between a protocol's name and a correction's
NO_BANK = "a correction needs a bank of other pairs; set bank= to a split, such as train, or to a file of embeddings"


@dataclass(frozen=True, kw_only=True)
class Gallery:
    """The data to evaluate.

    Args:
        similarities: similarities of images and captions.
        caption_to_image: row of each caption's image.
        bank: other pairs, or item sets, for corrections; None if there are none.
    """

    similarities: Similarities
    caption_to_image: npt.NDArray[np.int64]
    bank: Beside | None = None

    @cached_property
    def _ranks(self) -> tuple[Ranks, Ranks]:
        """From one pass."""
        folds = 1 if self.image_count % FOLDS else FOLDS
        return fold_ranks(self.similarities.image_caption, torch.as_tensor(self.caption_to_image), folds=folds)

    @property
    def whole_ranks(self) -> Ranks:
        """Ranks in the whole gallery."""
        return self._ranks[0]

    @property
    def own_fold_ranks(self) -> Ranks:
        """Ranks in the query's own fifth of the gallery."""
        return self._ranks[1]

    def best_ranks(self, i2t: Pairs, t2i: Pairs) -> tuple[torch.Tensor, torch.Tensor]:
        """Rank of the best positive of every image and of every caption; see ``best_positive_ranks``."""
        return best_positive_ranks(self.similarities.image_caption, i2t, t2i)

    def searched(self, direction: str) -> Similarity:
        """Queries × gallery of ``i2t`` or ``t2i``."""
        similarity = self.similarities.image_caption
        return similarity if direction == "i2t" else similarity.transpose()

    @property
    def image_count(self) -> int:
        """Number of images in the gallery."""
        return self.similarities.image_caption.shape[0]


@dataclass(frozen=True, kw_only=True)
class CorrectedGallery(Gallery):
    """The data to evaluate, each search corrected by a bank; a fold is a gallery of its own.

    Its ``similarities`` are those before the correction. Items of one kind are not compared.

    Args:
        correction: corrects the similarities of one direction.
    """

    bank: Beside
    correction: Correction

    @cached_property
    def whole_ranks(self) -> Ranks:
        index = torch.as_tensor(self.caption_to_image, device=self.similarities.image_caption.device)
        check_index(index, *self.similarities.image_caption.shape)
        captions = Pairs(torch.arange(len(index), device=index.device), index)
        of_images, of_captions = self.best_ranks(captions.turned(), captions)
        return Ranks(of_images.cpu().numpy(), of_captions.cpu().numpy())

    @cached_property
    def own_fold_ranks(self) -> Ranks:
        fold_of = np.arange(self.image_count) // (self.image_count // FOLDS)
        whole = Ranks(np.empty_like(fold_of), np.empty_like(self.caption_to_image))
        for fold in range(FOLDS):
            images, captions = fold_of == fold, fold_of[self.caption_to_image] == fold
            whole.images[images], whole.captions[captions] = self._part(images, captions).whole_ranks
        return whole

    def best_ranks(self, i2t: Pairs, t2i: Pairs) -> tuple[torch.Tensor, torch.Tensor]:
        return row_ranks(self.searched("i2t"), i2t), row_ranks(self.searched("t2i"), t2i)

    def searched(self, direction: str) -> Similarity:
        return self.correction(super().searched(direction), self.bank.searched(direction))

    def _part(self, images: npt.NDArray[np.bool_], captions: npt.NDArray[np.bool_]) -> "CorrectedGallery":
        similarity = self.similarities.image_caption
        rows, columns = (torch.as_tensor(one.nonzero()[0], device=similarity.device) for one in (images, captions))
        return replace(
            self,
            similarities=only_between(similarity.select(rows, columns)),
            caption_to_image=(images.cumsum() - 1)[self.caption_to_image[captions]],
            bank=self.bank.part(rows, columns),
        )


def only_between(similarity: Similarity) -> Similarities:
    """Similarities of images with captions, and of none with its own kind."""
    return Similarities(image_caption=similarity, image_image=None, caption_caption=None)


def corrected(test: Gallery, correction: Correction) -> CorrectedGallery:
    """The same data, each search corrected by the bank.

    Raises:
        VSEError: if there is no bank.
    """
    if test.bank is None:
        raise VSEError(NO_BANK)
    return CorrectedGallery(
        similarities=only_between(test.similarities.image_caption),
        caption_to_image=test.caption_to_image,
        bank=test.bank,
        correction=correction,
    )


Protocol = Callable[[Gallery], Outcome]


def run_protocols(
    test: Gallery,
    protocols: Sequence[str],
    annotated: Mapping[str, Protocol] | None = None,
    corrections: Mapping[str, Correction] | None = None,
) -> dict[str, Outcome]:
    """{protocol: outcome} for each named protocol, such as ``all``, or ``all+qbnorm`` for one with a correction.

    Args:
        test: the data.
        protocols: names.
        annotated: protocols that need annotations, by name.
        corrections: corrections by name.

    Raises:
        VSEError: if a protocol or a correction is unknown, a protocol is made for another number of images, or a
            correction has no bank.
    """
    known, corrections = PROTOCOLS | dict(annotated or {}), corrections or {}
    check_protocols(protocols, test.image_count, known, corrections)
    galleries = {"": test}
    outcomes = {}
    for name in protocols:
        base, _, correction = name.partition(PLUS)
        if correction not in galleries:
            galleries[correction] = corrected(test, corrections[correction])
        outcomes[name] = known[base](galleries[correction])
    return outcomes


def check_protocols(
    protocols: Sequence[str], images: int, known: Iterable[str], corrections: Iterable[str] = ()
) -> None:
    """Refuse a test that cannot be run, before any work.

    Raises:
        VSEError: if a name is unknown, or a protocol is defined on another number of images, so that results could not
            be compared.
    """
    check_names(protocols, known, corrections)
    for name in protocols:
        expected = SIZES.get(name.partition(PLUS)[0], images)
        if images != expected:
            raise VSEError(f"protocol {name} is defined on {expected} images, found {images}; use protocol all")


def check_names(protocols: Sequence[str], known: Iterable[str], corrections: Iterable[str] = ()) -> None:
    """Refuse names that are unknown.

    Raises:
        VSEError: if there is no protocol, or a protocol or a correction is unknown.
    """
    if not protocols:
        raise VSEError(f"no protocol to test by, expected some of {', '.join(known)}")
    for name in protocols:
        base, plus, correction = name.partition(PLUS)
        if base not in known:
            raise VSEError(f"unknown protocol {name}, expected some of {', '.join(known)}")
        if plus and not list(corrections):
            raise VSEError(f"protocol {name}: a correction needs a bank, which only vse-evaluate and evaluate() take")
        if plus and correction not in corrections:
            raise VSEError(f"protocol {name}: unknown correction {correction}, expected {' or '.join(corrections)}")


def whole_gallery(test: Gallery) -> Outcome:
    """Every query searches the whole gallery."""
    return recall_outcome(test.whole_ranks, test.caption_to_image)


def five_folds(test: Gallery) -> Outcome:
    """Every query searches its own of five consecutive folds; results are means over the folds."""
    folds = np.arange(test.image_count) // (test.image_count // FOLDS)
    return recall_outcome(test.own_fold_ranks, test.caption_to_image, folds)


PROTOCOLS: dict[str, Protocol] = {
    "all": whole_gallery,
    "coco_5k": whole_gallery,
    "coco_1k_5fold": five_folds,
    "f30k_1k": whole_gallery,
    "f8k_1k": whole_gallery,
}
SIZES = {"coco_5k": 5000, "coco_1k_5fold": 5000, "f30k_1k": 1000, "f8k_1k": 1000}
