"""Count the similarities that reach each query's thresholds: float32 products decide most, exact products the rest."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vse_gpo.retrieval.similarity import Similarity

TILE = (1000, 5000)  # rows and columns compared at once
TIE = 1e-12  # exact similarities closer than this are ties
CROWDED = 0.01  # share of a tile near its thresholds above which the whole tile is computed exactly


class Pairs(NamedTuple):
    """Matching queries and gallery items. No pair occurs twice."""

    queries: Int[Tensor, " pairs"]
    items: Int[Tensor, " pairs"]

    def turned(self) -> "Pairs":
        """The pairs with queries and items swapped."""
        return Pairs(self.items, self.queries)


class Asked(NamedTuple):
    """What to count for every query of one direction.

    Args:
        thresholds: exact similarities; infinity where a query has no threshold.
        positives: pairs that are not counted.
    """

    thresholds: Float[Tensor, "queries thresholds"]
    positives: Pairs


def count_at_least(
    similarity: Similarity,
    rows: Asked,
    columns: Asked,
    row_bounds: Sequence[int] | None = None,
    column_bounds: Sequence[int] | None = None,
) -> tuple[Int[Tensor, "rows row_thresholds column_groups"], Int[Tensor, "columns column_thresholds row_groups"]]:
    """Count the entries of each row, and of each column, that are at least each of its thresholds.

    Float32 products decide all entries except those that are closer to a threshold than rounding errors reach. These
    are computed exactly.

    Args:
        similarity: similarities of rows and columns.
        rows: what to count for every row; its pairs are (row, column).
        columns: what to count for every column; its pairs are (column, row).
        row_bounds, column_bounds: start of each group of rows or columns, and the end of the last; None: one group.
    """
    row_bounds = row_bounds or [0, similarity.shape[0]]
    column_bounds = column_bounds or [0, similarity.shape[1]]
    by_row, by_column = _zeros(rows, len(column_bounds) - 1), _zeros(columns, len(row_bounds) - 1)
    row_parts, column_parts = list(_parts(row_bounds, TILE[0])), list(_parts(column_bounds, TILE[1]))
    row_positives = _by_tile(rows.positives, row_parts, column_parts)
    column_positives = _by_tile(columns.positives.turned(), row_parts, column_parts)
    memory = _memory(similarity, row_parts, column_parts)
    for r, (row_group, row) in enumerate(row_parts):
        for c, (column_group, column) in enumerate(column_parts):
            part = _part(similarity, row, column, memory)
            by_row[row, :, column_group] += part.count(rows.thresholds[row], row_positives[r][c])
            by_column[column, :, row_group] += part.turned().count(
                columns.thresholds[column], column_positives[r][c].turned()
            )
    return by_row, by_column


def count_at_least_among_themselves(similarity: Similarity, asked: Asked) -> Int[Tensor, "items thresholds"]:
    """Like ``count_at_least``, for a symmetric matrix, of which only one half is computed."""
    counts = _zeros(asked, 1)[:, :, 0]
    parts = list(_parts([0, similarity.shape[0]], TILE[1] // 2))
    positives = _by_tile(asked.positives, parts, parts)
    memory = _memory(similarity, parts, parts)
    for r, (_, row) in enumerate(parts):
        for c, (_, column) in enumerate(parts[r:], start=r):
            part = _part(similarity, row, column, memory)
            counts[row] += part.count(asked.thresholds[row], positives[r][c])
            if c > r:
                counts[column] += part.turned().count(asked.thresholds[column], positives[c][r])
    return counts


@dataclass(frozen=True)
class _Part:
    """A tile of similarities with queries in rows."""

    similarity: Similarity
    rows: slice
    columns: slice
    values: Float[Tensor, "queries items"]
    flags: Float[Tensor, "queries items"]  # compared and summed as floats, several times faster than as booleans
    is_turned: bool = False

    def turned(self) -> "_Part":
        """The same tile with queries in columns."""
        return replace(self, values=self.values.T, flags=self.flags.T, is_turned=not self.is_turned)

    def count(
        self, thresholds: Float[Tensor, "queries thresholds"], positives: Pairs
    ) -> Int[Tensor, "queries thresholds"]:
        """Count the items besides the positives that are at least each threshold."""
        counts = torch.zeros(thresholds.shape, dtype=torch.int64, device=thresholds.device)
        if thresholds.isinf().all():
            return counts
        kept = self.values[positives]
        self.values[positives] = -torch.inf
        for number, threshold in enumerate(thresholds.T):
            asking = threshold.isfinite().nonzero()[-1:] + 1
            if len(asking):  # up to the last query with a threshold: callers that put these first save the rest
                counts[:asking, number] = self._count(threshold[:asking], positives)
        self.values[positives] = kept
        return counts

    def _count(self, threshold: Float[Tensor, " asking"], positives: Pairs) -> Int[Tensor, " asking"]:
        """Counts for the first queries, as many as there are thresholds."""
        asking = slice(0, len(threshold))
        values, flags = self.values[asking], self.flags[asking]
        above, below = self.similarity.margins
        lower, upper = (threshold - above).float()[:, None], (threshold + below).float()[:, None]
        counts = torch.ge(values, upper, out=flags).sum(1).long()
        near = torch.ge(values, lower, out=flags).sum(1).long() - counts
        if int(near.sum()) > CROWDED * values.numel():
            exact = self._exact()
            exact[positives] = -torch.inf
            return (exact[asking] >= threshold[:, None] - TIE).sum(1)
        queries = near.nonzero()[:, 0]
        if len(queries):
            values = values[queries]
            which, items = ((values >= lower[queries]) & (values < upper[queries])).nonzero().T
            which = queries[which]
            found = self._exact_pairs(which, items)
            counts += torch.bincount(which[found >= threshold[which] - TIE], minlength=len(counts))
        return counts

    def _exact(self) -> Float[Tensor, "queries items"]:
        exact = self.similarity.exact_tile(self.rows, self.columns)
        return exact.T if self.is_turned else exact

    def _exact_pairs(self, queries: Int[Tensor, " pairs"], items: Int[Tensor, " pairs"]) -> Float[Tensor, " pairs"]:
        rows, columns = (items, queries) if self.is_turned else (queries, items)
        return self.similarity.pairs(rows + self.rows.start, columns + self.columns.start)


def _memory(
    similarity: Similarity, row_parts: Sequence[tuple[int, slice]], column_parts: Sequence[tuple[int, slice]]
) -> Float[Tensor, "2 numbers"]:
    """Buffers for a tile and its flags, reused for every tile: allocating costs as much as comparing."""
    rows, columns = (max(part.stop - part.start for _, part in parts) for parts in (row_parts, column_parts))
    return torch.empty(2, rows * columns, device=similarity.device)


def _part(similarity: Similarity, rows: slice, columns: slice, memory: Float[Tensor, "2 numbers"]) -> _Part:
    shape = (rows.stop - rows.start, columns.stop - columns.start)
    values, flags = (half[: shape[0] * shape[1]].view(shape) for half in memory)
    return _Part(similarity, rows, columns, similarity.tile(rows, columns, values), flags)


def _parts(bounds: Sequence[int], size: int) -> Iterator[tuple[int, slice]]:
    """Group numbers with the groups' parts, of at most ``size`` rows each."""
    for group, (first, last) in enumerate(pairwise(bounds)):
        for start in range(first, last, size):
            yield group, slice(start, min(start + size, last))


def _by_tile(
    pairs: Pairs, row_parts: Sequence[tuple[int, slice]], column_parts: Sequence[tuple[int, slice]]
) -> list[list[Pairs]]:
    """The (row, column) pairs inside each tile, relative to its corner."""
    starts = [
        torch.tensor([part.start for _, part in parts], device=pairs.queries.device)
        for parts in (row_parts, column_parts)
    ]
    r, c = (torch.searchsorted(first, side, right=True) - 1 for first, side in zip(starts, pairs, strict=True))
    tile = r * len(column_parts) + c
    order = tile.argsort(stable=True)
    amounts = torch.bincount(tile, minlength=len(row_parts) * len(column_parts)).tolist()
    inside = [
        (side - first[number])[order].split(amounts) for side, first, number in zip(pairs, starts, (r, c), strict=True)
    ]
    tiles = [Pairs(*both) for both in zip(*inside, strict=True)]
    return [tiles[first : first + len(column_parts)] for first in range(0, len(tiles), len(column_parts))]


def _zeros(asked: Asked, groups: int) -> Int[Tensor, "queries thresholds groups"]:
    return torch.zeros((*asked.thresholds.shape, groups), dtype=torch.int64, device=asked.thresholds.device)
