"""Similarities of queries and galleries, in tiles: the whole matrix is never in memory."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vse_gpo.errors import VSEError
from vse_gpo.precision import full_precision

NUMBERS_AT_ONCE = 2**17  # gathered for exact pairs: they fit a processor's cache


@runtime_checkable
class Similarity(Protocol):
    """A similarity matrix that is read in parts.

    Attributes:
        shape: rows (queries) and columns (items of the gallery).
        margins: how far an exact entry may lie above, and below, the entry of a float32 tile.
    """

    shape: tuple[int, int]
    margins: tuple[float, float]
    device: torch.device

    def tile(
        self, rows: slice, columns: slice, out: Float[Tensor, "rows columns"] | None = None
    ) -> Float[Tensor, "rows columns"]:
        """A part of the matrix in float32, which the caller may overwrite; written to ``out`` if given."""

    def exact_tile(self, rows: slice, columns: slice) -> Float[Tensor, "rows columns"]:
        """A part of the matrix in float64."""

    def pairs(self, rows: Int[Tensor, " pairs"], columns: Int[Tensor, " pairs"]) -> Float[Tensor, " pairs"]:
        """Single entries in float64."""

    def select(self, rows: Int[Tensor, " rows"], columns: Int[Tensor, " columns"]) -> "Similarity":
        """The matrix of some rows and columns, in the order given."""

    def transpose(self) -> "Similarity":
        """The matrix with queries and gallery swapped."""


def symmetric_entries(
    similarity: Similarity, rows: Int[Tensor, " pairs"], columns: Int[Tensor, " pairs"]
) -> Float[Tensor, " pairs"]:
    """Single entries of a symmetric matrix in float64; an entry and its mirror image are computed once."""
    items = similarity.shape[0]
    distinct, place = torch.unique(
        torch.minimum(rows, columns) * items + torch.maximum(rows, columns), return_inverse=True
    )
    return similarity.pairs(distinct // items, distinct % items)[place]


class Products:
    """Dot products of embeddings, which are cosines if the embeddings have unit length.

    Args:
        rows: (rows, E) embeddings of the queries.
        columns: (columns, E) embeddings of the gallery.
    """

    def __init__(self, rows: Float[Tensor, "rows dim"], columns: Float[Tensor, "columns dim"]) -> None:
        self.exact_rows, self.exact_columns = _exact(rows), _exact(columns)
        self.row_embeddings, self.column_embeddings = self.exact_rows.float(), self.exact_columns.float()
        self.shape = (len(rows), len(columns))
        self.device = rows.device
        # rounding errors of a float32 sum grow with the square root of its length; this is about ten times what occurs
        longest = float(self.row_embeddings.norm(dim=1).max() * self.column_embeddings.norm(dim=1).max())
        margin = torch.finfo(torch.float32).eps * (1 + 0.5 * rows.shape[1] ** 0.5) * longest
        self.margins = (margin, margin)

    def tile(
        self, rows: slice, columns: slice, out: Float[Tensor, "rows columns"] | None = None
    ) -> Float[Tensor, "rows columns"]:
        with full_precision(self.device):  # the margins count on it
            return torch.mm(self.row_embeddings[rows], self.column_embeddings[columns].T, out=out)

    def exact_tile(self, rows: slice, columns: slice) -> Float[Tensor, "rows columns"]:
        return self.exact_rows[rows].double() @ self.exact_columns[columns].double().T

    def pairs(self, rows: Int[Tensor, " pairs"], columns: Int[Tensor, " pairs"]) -> Float[Tensor, " pairs"]:
        width = self.exact_rows.shape[1]
        at_once = max(1, NUMBERS_AT_ONCE // width)
        found = torch.empty(len(rows), dtype=torch.float64, device=self.device)
        memory = found.new_empty(2, min(at_once, len(rows)), width)  # reused for every chunk
        for row, column, out in zip(rows.split(at_once), columns.split(at_once), found.split(at_once), strict=True):
            first, second = memory[:, : len(out)]
            first.copy_(self.exact_rows[row]).mul_(second.copy_(self.exact_columns[column]))
            torch.sum(first, dim=1, out=out)
        return found

    def select(self, rows: Int[Tensor, " rows"], columns: Int[Tensor, " columns"]) -> "Products":
        return Products(_pick(self.exact_rows, rows), _pick(self.exact_columns, columns))

    def transpose(self) -> "Products":
        return Products(self.exact_columns, self.exact_rows)


class Matrix:
    """A similarity matrix that another program computed.

    Args:
        values: similarities (rows, columns).
    """

    def __init__(self, values: Float[Tensor, "rows columns"]) -> None:
        self.values = values.detach()
        self.shape = (values.shape[0], values.shape[1])
        self.device = values.device
        margin = torch.finfo(torch.float32).eps * float(self.values.abs().max())
        self.margins = (margin, margin)

    def tile(
        self, rows: slice, columns: slice, out: Float[Tensor, "rows columns"] | None = None
    ) -> Float[Tensor, "rows columns"]:
        values = self.values[rows, columns]
        return values.to(torch.float32, copy=True) if out is None else out.copy_(values)

    def exact_tile(self, rows: slice, columns: slice) -> Float[Tensor, "rows columns"]:
        return self.values[rows, columns].to(torch.float64, copy=True)  # the caller writes into it

    def pairs(self, rows: Int[Tensor, " pairs"], columns: Int[Tensor, " pairs"]) -> Float[Tensor, " pairs"]:
        return self.values[rows, columns].double()

    def select(self, rows: Int[Tensor, " rows"], columns: Int[Tensor, " columns"]) -> "Matrix":
        return Matrix(_pick(_pick(self.values, rows).T, columns).T)

    def transpose(self) -> "Matrix":
        return Matrix(self.values.T)


class MeanSimilarity:
    """The mean of several models' similarities: an ensemble as published.

    Args:
        parts: similarities of the same queries and gallery.
    """

    def __init__(self, parts: Sequence[Similarity]) -> None:
        self.parts = list(parts)
        self.shape = self.parts[0].shape
        self.device = self.parts[0].device
        above, below = zip(*(part.margins for part in self.parts), strict=True)
        rounded = 1 + len(self.parts) / 2  # the sum's own rounding: its partial sums grow with the members
        self.margins = (max(above) * rounded, max(below) * rounded)

    def tile(
        self, rows: slice, columns: slice, out: Float[Tensor, "rows columns"] | None = None
    ) -> Float[Tensor, "rows columns"]:
        total = self.parts[0].tile(rows, columns, out)
        for part in self.parts[1:]:
            total += part.tile(rows, columns)
        return total.div_(len(self.parts))

    def exact_tile(self, rows: slice, columns: slice) -> Float[Tensor, "rows columns"]:
        return torch.stack([part.exact_tile(rows, columns) for part in self.parts]).mean(0)

    def pairs(self, rows: Int[Tensor, " pairs"], columns: Int[Tensor, " pairs"]) -> Float[Tensor, " pairs"]:
        return torch.stack([part.pairs(rows, columns) for part in self.parts]).mean(0)

    def select(self, rows: Int[Tensor, " rows"], columns: Int[Tensor, " columns"]) -> "MeanSimilarity":
        return MeanSimilarity([part.select(rows, columns) for part in self.parts])

    def transpose(self) -> "MeanSimilarity":
        return MeanSimilarity([part.transpose() for part in self.parts])


def _exact(embeddings: Float[Tensor, "rows dim"]) -> Float[Tensor, "rows dim"]:
    """The embeddings, detached; half precision becomes float32, which is exact, and float64 stays."""
    embeddings = embeddings.detach()
    return embeddings if embeddings.dtype == torch.float64 else embeddings.float()


def _pick(table: Tensor, index: Int[Tensor, " rows"]) -> Tensor:
    """The selected rows, without a copy if they are all rows in order."""
    everything = len(index) == len(table) and bool((index == torch.arange(len(table), device=index.device)).all())
    return table if everything else table[index]


@dataclass(frozen=True, kw_only=True)
class Similarities:
    """What the protocols compare: images with captions, and each with their own kind if embeddings are known."""

    image_caption: Similarity
    image_image: Similarity | None
    caption_caption: Similarity | None


def similarities(images: Float[Tensor, "..."], captions: Float[Tensor, "..."]) -> Similarities:
    """Similarities from embeddings.

    Raises:
        VSEError: if the widths differ or a number is NaN or infinite.
    """
    if images.ndim != 2 or captions.ndim != 2 or images.shape[1] != captions.shape[1]:
        raise VSEError(
            f"image embeddings {tuple(images.shape)} and caption embeddings {tuple(captions.shape)}, expected "
            "(images, E) and (captions, E) with the same E"
        )
    if images.device.type == "mps":  # which has no float64
        images, captions = images.cpu(), captions.cpu()
    check_finite("image embedding", images)
    check_finite("caption embedding", captions)
    return Similarities(
        image_caption=Products(images, captions),
        image_image=Products(images, images),
        caption_caption=Products(captions, captions),
    )


def matrix_similarities(values: Float[Tensor, "images captions"]) -> Similarities:
    """Similarities from only a matrix of images by captions.

    Raises:
        VSEError: if a number is NaN or infinite.
    """
    check_finite("similarities of image", values)
    return Similarities(image_caption=Matrix(values), image_image=None, caption_caption=None)


def ensemble(members: Sequence[Similarities]) -> Similarities:
    """The mean of the members' similarities.

    Raises:
        VSEError: if the members do not compare equally many images and captions.
    """
    shapes = [member.image_caption.shape for member in members]
    if len(set(shapes)) != 1:
        raise VSEError(f"an ensemble of different galleries: images × captions {', '.join(map(str, shapes))}")

    def mean(parts: Sequence[Similarity | None]) -> Similarity | None:
        known = [part for part in parts if part is not None]
        return MeanSimilarity(known) if len(known) == len(parts) else None

    return Similarities(
        image_caption=MeanSimilarity([member.image_caption for member in members]),
        image_image=mean([member.image_image for member in members]),
        caption_caption=mean([member.caption_caption for member in members]),
    )


def check_directions(what: str, values: Float[Tensor, "rows dim"]) -> None:
    """Refuse rows that have no direction to compare: NaN, infinity or only zeros; names the first row."""
    check_finite(what, values)
    zero = (values == 0).all(1)
    if zero.any():
        raise VSEError(
            f"{what} {int(zero.nonzero()[0])} is zero, as are {int(zero.sum()) - 1} more; expected a direction to "
            "compare, leave such rows out"
        )


def check_finite(what: str, values: Float[Tensor, "rows dim"]) -> None:
    """Refuse NaN and infinity, naming the first row."""
    if torch.isfinite(values.sum()):  # one pass; a sum that overflows decides nothing
        return
    finite = torch.isfinite(values).all(1)
    if not finite.all():
        bad = int((~finite).nonzero()[0])
        raise VSEError(f"{what} {bad} holds NaN or infinity, as do {int((~finite).sum()) - 1} more")
