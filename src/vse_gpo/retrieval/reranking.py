"""Two stages: a cheap similarity finds the first items of a gallery, a dear one puts these in order."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vse_gpo.errors import VSEError
from vse_gpo.retrieval.hubness import exact_blocks
from vse_gpo.retrieval.similarity import Similarity

Rescore = Callable[[int, Int[Tensor, " first"]], Float[Tensor, " first"]]  # query, items → their dear similarity


@dataclass(frozen=True)
class Rerank:
    """Re-orders the items that every query finds first; the others keep their order behind them.

    Args:
        first: number of items.
        embedding: weight that their first similarity keeps beside the dear one, whose weight is 1; with 0 the dear one
            alone puts them in order.

    Raises:
        VSEError: if the number is below 1, or the weight below 0.
    """

    first: int
    embedding: float = 0.0

    def __post_init__(self) -> None:
        if self.first < 1:
            raise VSEError(f"rerank={self.first}, expected at least 1 item")
        if self.embedding < 0:
            raise VSEError(f"rerank_embedding={self.embedding:g}, expected a weight of 0 or more")

    def __str__(self) -> str:
        return f"rerank{self.first}" + (f"_embedding{self.embedding:g}" if self.embedding else "")

    def __call__(self, similarity: Similarity, rescore: Rescore) -> "Reranked":
        """The similarity of queries and gallery in the new order.

        Raises:
            VSEError: if the gallery has fewer items.
        """
        queries, gallery = similarity.shape
        check_first(self.first, gallery)
        items = torch.empty(queries, self.first, dtype=torch.int64, device=similarity.device)
        kept = torch.empty(queries, self.first, dtype=torch.float64, device=similarity.device)
        for rows, values in exact_blocks(similarity):
            found = values.topk(self.first, dim=1)
            items[rows], kept[rows] = found.indices, self.embedding * found.values.double()
        scores = torch.stack([rescore(query, own) for query, own in enumerate(items)])
        return Reranked(similarity, items, scores.to(items.device, torch.float64) + kept)


class Reranked:
    """A similarity whose first items of each query have other scores, above those of all others.

    Args:
        similarity: queries × gallery, with entries of −1 to 1.
        items: of each query, those that are re-ordered; −1 for none.
        scores: float64 scores of these.
    """

    def __init__(
        self,
        similarity: Similarity,
        items: Int[Tensor, "queries first"],
        scores: Float[Tensor, "queries first"],
    ) -> None:
        self.similarity, self.items, self.scores = similarity, items, scores
        self.raised = scores - scores.min() + 2.0
        self.shape, self.device = similarity.shape, similarity.device
        rounding = torch.finfo(torch.float32).eps * float(self.raised.max())
        self.margins = (max(similarity.margins[0], rounding), max(similarity.margins[1], rounding))

    def tile(
        self, rows: slice, columns: slice, out: Float[Tensor, "rows columns"] | None = None
    ) -> Float[Tensor, "rows columns"]:
        return self._raise(self.similarity.tile(rows, columns, out), rows, columns)

    def exact_tile(self, rows: slice, columns: slice) -> Float[Tensor, "rows columns"]:
        return self._raise(self.similarity.exact_tile(rows, columns), rows, columns)

    def _raise(self, tile: Float[Tensor, "rows columns"], rows: slice, columns: slice) -> Float[Tensor, "rows columns"]:
        items = self.items[rows]
        row, place = ((items >= columns.start) & (items < columns.stop)).nonzero().T
        tile[row, items[row, place] - columns.start] = self.raised[rows][row, place].to(tile.dtype)
        return tile

    def pairs(self, rows: Int[Tensor, " pairs"], columns: Int[Tensor, " pairs"]) -> Float[Tensor, " pairs"]:
        found = self.similarity.pairs(rows, columns)
        pair, place = (self.items[rows] == columns[:, None]).nonzero().T
        found[pair] = self.raised[rows[pair], place]
        return found

    def select(self, rows: Int[Tensor, " rows"], columns: Int[Tensor, " columns"]) -> "Reranked":
        place = torch.full((self.shape[1] + 1,), -1, device=self.device)  # the last one stands for no item
        place[columns] = torch.arange(len(columns), device=self.device)
        return Reranked(self.similarity.select(rows, columns), place[self.items[rows]], self.scores[rows])

    def transpose(self) -> Similarity:
        raise NotImplementedError("the order of one direction says nothing about the other")


def check_first(first: int, gallery: int) -> None:
    """Refuse to re-order more items than there are.

    Args:
        first: items that are re-ordered.
        gallery: number of items.

    Raises:
        VSEError: if they are fewer.
    """
    if first > gallery:
        raise VSEError(f"rerank={first}, but the gallery has {gallery} items; set it to {gallery} at most")


def keep(similarity: Similarity, _: Rescore) -> Similarity:
    """The first stage by itself."""
    return similarity
