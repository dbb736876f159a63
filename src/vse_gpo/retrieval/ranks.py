"""Ranks of the true matches, blockwise: the whole similarity matrix never exists."""

from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float, Int
from torch import Tensor

from vse_gpo.errors import VSEError

IMAGES_PER_TILE = 512


class Ranks(NamedTuple):
    """Ranks counted from 0; ties count against the query."""

    images: npt.NDArray[np.int64]  # per image query, the rank of its best caption among all captions
    captions: npt.NDArray[np.int64]  # per caption query, the rank of its image among all images


def image_caption_ranks(
    image_embeddings: Float[Tensor, "images dim"],
    caption_embeddings: Float[Tensor, "captions dim"],
    caption_to_image: Int[Tensor, " captions"],
) -> Ranks:
    """Rank every image's best caption and every caption's image by cosine of unit embeddings.

    An image's other captions never count against it. The matrix is computed once, in tiles of some images by the
    captions of some images: those on the diagonal hold every true match and set the thresholds, which the others are
    then counted against.

    Raises:
        VSEError: if an embedding holds NaN, a caption names no image or an image has no caption.
    """
    _check(image_embeddings, caption_embeddings, caption_to_image)
    images = len(image_embeddings)
    order = caption_to_image.argsort(stable=True)
    captions, owners = caption_embeddings[order], caption_to_image[order]
    starts = list(range(0, images, IMAGES_PER_TILE))
    rows = [slice(start, min(start + IMAGES_PER_TILE, images)) for start in starts]
    bounds = torch.searchsorted(owners, torch.tensor([*starts, images], device=owners.device)).tolist()
    columns = [slice(first, last) for first, last in pairwise(bounds)]

    best = torch.empty(images, device=captions.device, dtype=captions.dtype)
    own = torch.empty(len(captions), device=captions.device, dtype=captions.dtype)
    image_ranks = torch.zeros(images, dtype=torch.long, device=captions.device)
    caption_ranks = torch.zeros(len(captions), dtype=torch.long, device=captions.device)
    diagonal_first = sorted(((r, c) for r in range(len(rows)) for c in range(len(rows))), key=lambda t: t[0] != t[1])
    for r, c in diagonal_first:
        row, column = rows[r], columns[c]
        tile = image_embeddings[row] @ captions[column].T
        if r == c:
            owner = owners[column] - row.start
            own[column] = tile.gather(0, owner[None])[0]
            best[row] = torch.full_like(best[row], -torch.inf).scatter_reduce(0, owner, own[column], "amax")
            match = torch.arange(row.stop - row.start, device=tile.device)[:, None] == owner
            image_ranks[row] += ((tile >= best[row, None]) & ~match).sum(1)
            caption_ranks[column] += ((tile >= own[None, column]) & ~match).sum(0)
        else:
            image_ranks[row] += (tile >= best[row, None]).sum(1)
            caption_ranks[column] += (tile >= own[None, column]).sum(0)
    unsorted = torch.empty_like(caption_ranks)
    unsorted[order] = caption_ranks
    return Ranks(image_ranks.cpu().numpy(), unsorted.cpu().numpy())


def _check(images: Tensor, captions: Tensor, caption_to_image: Tensor) -> None:
    for name, embeddings in (("image", images), ("caption", captions)):
        finite = torch.isfinite(embeddings).all(1)
        if not finite.all():
            bad = int((~finite).nonzero()[0])
            raise VSEError(f"{name} embedding {bad} holds NaN or infinity, as do {int((~finite).sum()) - 1} more")
    if len(captions) != len(caption_to_image):
        raise VSEError(f"{len(captions)} caption embeddings but {len(caption_to_image)} image indices")
    counts = torch.bincount(caption_to_image, minlength=len(images))
    if len(counts) != len(images) or (counts == 0).any():
        raise VSEError(f"captions name {int((counts > 0).sum())} images of {len(images)}, expected all and no others")
