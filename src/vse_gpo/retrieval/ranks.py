"""Ranks of the true matches: how many other items of the gallery are at least as similar."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float, Int
from torch import Tensor

from vse_gpo.errors import VSEError
from vse_gpo.retrieval.counts import Asked, Pairs, count_at_least, count_at_least_among_themselves
from vse_gpo.retrieval.similarity import Similarity, symmetric_entries


class Ranks(NamedTuple):
    """Ranks counted from 0; ties count against the query."""

    images: npt.NDArray[np.int64]  # per image query, the rank of its best caption among all captions
    captions: npt.NDArray[np.int64]  # per caption query, the rank of its image among all images


def image_caption_ranks(similarity: Similarity, caption_to_image: Int[Tensor, " captions"]) -> Ranks:
    """Rank every image's best caption and every caption's image in the whole gallery.

    An image's other captions never count against it. Ranks follow from the exact products of the embeddings: they do
    not depend on the device, the tiles or the number of threads.

    Raises:
        VSEError: if a caption names no image or an image has no caption.
    """
    return fold_ranks(similarity, caption_to_image, folds=1)[0]


def fold_ranks(
    similarity: Similarity, caption_to_image: Int[Tensor, " captions"], *, folds: int
) -> tuple[Ranks, Ranks]:
    """Ranks in the whole gallery, and ranks in the query's own fold; folds hold equally many consecutive images.

    One pass over the similarities gives both.

    Raises:
        VSEError: if a caption names no image, an image has no caption or the images do not fill the folds.
    """
    images, captions = similarity.shape
    caption_to_image = caption_to_image.to(similarity.device)
    check_index(caption_to_image, images, captions)
    if images % folds:
        raise VSEError(f"{images} images do not make {folds} equal folds")
    order = caption_to_image.argsort(stable=True)
    everyone = torch.arange(captions, device=order.device)
    own = Pairs(caption_to_image[order], everyone)  # captions of a fold are contiguous
    similarity = similarity.select(torch.arange(images, device=order.device), order)
    values = similarity.pairs(*own)
    image_bounds = [*range(0, images, images // folds), images]
    caption_bounds = torch.searchsorted(own.queries, torch.tensor(image_bounds, device=order.device)).tolist()
    of_images, of_captions = count_at_least(
        similarity,
        Asked(_best(own, values, images), own),
        Asked(values[:, None], own.turned()),
        image_bounds,
        caption_bounds,
    )
    fold = torch.arange(images, device=order.device) // (images // folds)

    def ranks(image_counts: Tensor, caption_counts: Tensor) -> Ranks:
        unsorted = torch.empty_like(caption_counts)
        unsorted[order] = caption_counts
        return Ranks(image_counts.cpu().numpy(), unsorted.cpu().numpy())

    everywhere = ranks(of_images[:, 0].sum(1), of_captions[:, 0].sum(1))
    inside = ranks(
        of_images[:, 0].gather(1, fold[:, None])[:, 0],
        of_captions[:, 0].gather(1, fold[own.queries][:, None])[:, 0],
    )
    return everywhere, inside


def best_positive_ranks(
    similarity: Similarity, row_positives: Pairs, column_positives: Pairs
) -> tuple[Int[Tensor, " rows"], Int[Tensor, " columns"]]:
    """Rank of the best positive of every row among the columns, and of every column among the rows.

    Other positives never count against it. Queries without a positive have rank −1.
    """
    row_values = similarity.pairs(*row_positives)
    rows = Asked(_best(row_positives, row_values, similarity.shape[0]), row_positives)
    column_values = similarity.pairs(*column_positives.turned())
    columns = Asked(_best(column_positives, column_values, similarity.shape[1]), column_positives)
    by_row, by_column = count_at_least(similarity, rows, columns)
    return _rank_or_none(by_row[:, 0, 0], rows), _rank_or_none(by_column[:, 0, 0], columns)


def row_ranks(similarity: Similarity, positives: Pairs) -> Int[Tensor, " rows"]:
    """Rank of the best positive of every row among the columns, as ``best_positive_ranks`` gives it."""
    none = positives.queries[:0]
    return best_positive_ranks(similarity, positives, Pairs(none, none))[0]


def best_positive_ranks_among_themselves(similarity: Similarity, positives: Pairs) -> Int[Tensor, " items"]:
    """Like ``best_positive_ranks``, for items that search each other; no item is its own candidate."""
    everyone = torch.arange(similarity.shape[0], device=similarity.device)
    thresholds = _best(positives, symmetric_entries(similarity, *positives), similarity.shape[0])
    not_counted = Pairs(torch.cat([positives.queries, everyone]), torch.cat([positives.items, everyone]))
    asked = Asked(thresholds, not_counted)
    return _rank_or_none(count_at_least_among_themselves(similarity, asked)[:, 0], asked)


def _best(positives: Pairs, values: Float[Tensor, " pairs"], queries: int) -> Float[Tensor, "queries 1"]:
    """Largest similarity among each query's positives; infinity for a query without positives."""
    best = torch.full((queries,), -torch.inf, dtype=torch.float64, device=values.device)
    best = best.scatter_reduce(0, positives.queries, values, "amax")
    return best.masked_fill(best.isinf(), torch.inf)[:, None]


def _rank_or_none(counts: Int[Tensor, " queries"], asked: Asked) -> Int[Tensor, " queries"]:
    return torch.where(asked.thresholds[:, 0].isinf(), -1, counts)


def every_positive_rank(similarity: Similarity, positives: Pairs) -> list[npt.NDArray[np.int64]]:
    """Ranks of all positives of every row, ascending; empty for a row without positives.

    Unlike the ranks of best positives, these also count the positives that rank higher.
    """
    values = similarity.pairs(*positives)
    order = values.argsort(descending=True, stable=True)
    order = order[positives.queries[order].argsort(stable=True)]
    queries = positives.queries[order]
    amounts = torch.bincount(queries, minlength=similarity.shape[0])
    number = torch.arange(len(queries), device=queries.device) - (amounts.cumsum(0) - amounts)[queries]
    thresholds = values.new_full((similarity.shape[0], int(amounts.max())), torch.inf)
    thresholds[queries, number] = values[order]

    by_amount = amounts.argsort(descending=True)  # rows with equally many thresholds share a tile
    place = by_amount.argsort()
    everything = torch.arange(similarity.shape[1], device=queries.device)
    rows, _ = count_at_least(
        similarity.select(by_amount, everything),
        Asked(thresholds[by_amount], Pairs(place[positives.queries], positives.items)),
        Asked(values.new_empty((similarity.shape[1], 0)), Pairs(order[:0], order[:0])),
    )
    ranks = rows[place, :, 0] + torch.arange(thresholds.shape[1], device=queries.device)
    return [row[:amount].cpu().numpy() for row, amount in zip(ranks, amounts.tolist(), strict=True)]


def check_index(caption_to_image: Tensor, images: int, captions: int) -> None:
    """Refuse an index that does not give every caption an image and every image a caption."""
    if captions != len(caption_to_image):
        raise VSEError(f"{captions} caption embeddings but {len(caption_to_image)} image indices")
    inside = (caption_to_image >= 0) & (caption_to_image < images)
    described = torch.unique(caption_to_image[inside])
    if not inside.all() or len(described) != images:
        raise VSEError(f"captions name {len(described)} images of {images}, expected all and no others")
