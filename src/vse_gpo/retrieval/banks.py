"""Banks of other pairs beside a test set: drawn, and checked to hold no pair of it."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vse_gpo.errors import VSEError
from vse_gpo.retrieval.embeddings import Encoded, encoded
from vse_gpo.retrieval.hubness import NUMBERS_AT_ONCE, Bank
from vse_gpo.retrieval.similarity import Products

SAME = 1 - 1e-5  # cosine from which two embeddings are one, perhaps once rounded to 16 bits
Embeddings = tuple[Tensor, Tensor]


def drawn_rows(images: int, size: int | None, seed: int) -> npt.NDArray[np.int64]:
    """Rows of the images that a bank takes, ascending: all, or as many as its size, drawn without repeats.

    Args:
        images: number of images to draw from.
        size: number of images of the bank; None takes all.
        seed: seed of the draw.
    """
    if size is None or size >= images:
        return np.arange(images)
    return np.sort(np.random.default_rng(seed).choice(images, size, replace=False))


def drawn(pairs: Encoded, size: int | None, seed: int) -> Encoded:
    """Some of the images with all their captions; see ``drawn_rows``.

    Raises:
        VSEError: if only similarities are known.
    """
    images, captions = _embeddings(pairs, "bank")
    rows = drawn_rows(len(images), size, seed)
    kept = np.isin(pairs.caption_to_image, rows).nonzero()[0]
    place = [torch.as_tensor(one, device=images.device) for one in (rows, kept)]
    return encoded(
        images[place[0]],
        captions[place[1]],
        caption_to_image=np.searchsorted(rows, pairs.caption_to_image[kept]),
        image_ids=None if pairs.image_ids is None else [pairs.image_ids[row] for row in rows.tolist()],
        caption_ids=None if pairs.caption_ids is None else [pairs.caption_ids[row] for row in kept.tolist()],
    )


def beside(test: Encoded, pairs: Encoded) -> Encoded:
    """The test set with a bank of other pairs.

    Args:
        test: the test set.
        pairs: the bank, embedded by the same model.

    Raises:
        VSEError: if the bank holds a pair of the test set or was embedded by another model, or if only similarities are
            known.
    """
    tested = _embeddings(test, "test set")
    images, captions = (part.to(tested[0].device, tested[0].dtype) for part in _embeddings(pairs, "bank"))
    if images.shape[1] != tested[0].shape[1]:
        raise VSEError(
            f"bank of embeddings {images.shape[1]} wide, the test set's are {tested[0].shape[1]} wide; embed both by "
            "one model"
        )
    check_ids(test.image_ids, pairs.image_ids, "image")
    check_ids(test.caption_ids, pairs.caption_ids, "caption")
    _check_embeddings(test, pairs, tested, (images, captions))
    bank = Bank(
        image_caption=Products(images, captions),
        image_tested=Products(images, tested[1]),
        tested_caption=Products(tested[0], captions),
        caption_to_image=pairs.caption_to_image,
    )
    return replace(test, bank=bank)


def _embeddings(one: Encoded, what: str) -> Embeddings:
    if one.embeddings is None:
        raise VSEError(
            f"a {what} of only similarities, as an .npy file or a model with an interaction gives them; expected "
            "embeddings: a correction compares those of the bank with those of the test set"
        )
    return one.embeddings


def check_ids(tested: Sequence[str] | None, banked: Sequence[str] | None, what: str) -> None:
    """Refuse a bank with an id of the test set.

    Args:
        tested, banked: ids; None where they are not known.
        what: has these ids, for the message.

    Raises:
        VSEError: if the two share an id.
    """
    shared = set(tested or ()).intersection(banked or ())
    if shared:
        first = next(one for one in banked or () if one in shared)
        raise VSEError(
            f"the bank holds {len(shared)} {what}s of the test set, first id {first}; expected other pairs, such as "
            "those of train"
        )


def _check_embeddings(test: Encoded, pairs: Encoded, tested: Embeddings, banked: Embeddings) -> None:
    """Refuse an image that embeds as one of the test set does, if one of its captions does too."""
    products = Products(banked[0], tested[0])
    at_once = max(1, NUMBERS_AT_ONCE // len(tested[0]))
    for start in range(0, len(banked[0]), at_once):
        part = slice(start, min(start + at_once, len(banked[0])))
        same = products.tile(part, slice(0, len(tested[0]))) >= SAME
        for row, column in same.nonzero().tolist():
            ours = tested[1][torch.as_tensor(test.caption_to_image == column)]
            theirs = banked[1][torch.as_tensor(pairs.caption_to_image == start + row)]
            if bool((theirs @ ours.T >= SAME).any()):
                raise VSEError(
                    f"the bank holds a pair of the test set: its image {start + row} and one of its captions embed as "
                    f"image {column} and its caption do; expected other pairs, such as those of train"
                )
