"""ECCV Caption (Chun et al. 2022) and plausible matches (Chun et al. 2021): how many of all positives come first."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from vse_gpo.retrieval.annotations import CocoRows, IdPairs
from vse_gpo.retrieval.counts import TILE, Pairs
from vse_gpo.retrieval.protocols import Gallery
from vse_gpo.retrieval.ranks import every_positive_rank
from vse_gpo.retrieval.recalls import CUTS, Outcome, Queries
from vse_gpo.retrieval.similarity import Similarity


class Search(NamedTuple):
    """One direction over the queries that have positives listed."""

    similarity: Similarity  # these queries × the whole gallery
    positives: Pairs  # by the rows and columns of the similarity
    amounts: npt.NDArray[np.int64]  # positives of each query; some may lie outside the gallery


QueryScores = dict[str, npt.NDArray[np.float64]]


@dataclass(frozen=True)
class ListedPositives:
    """Scores in percent for queries with listed positives, in both directions, and the means of the two directions.

    Args:
        i2t, t2i: (query, positive) by COCO ids.
        rows: rows of the evaluated images and captions.
        score: a direction's search → scores of its queries; ``eccv_scores`` or ``plausible_scores``.
        source: name of the lists, for messages.
    """

    i2t: IdPairs
    t2i: IdPairs
    rows: CocoRows
    score: Callable[[Search], QueryScores]
    source: str

    def __call__(self, test: Gallery) -> Outcome:
        queries = []
        for direction, listed, owners in (
            ("i2t", self.i2t, np.arange(test.image_count)),
            ("t2i", self.t2i, test.caption_to_image),
        ):
            rows, search = self._search(test, direction, listed)
            queries.append(Queries(direction=direction, rows=rows, owners=owners[rows], scores=self.score(search)))
        names = queries[0].scores
        return Outcome(queries=queries, totals={name: {f"i2t_{name}": 0.5, f"t2i_{name}": 0.5} for name in names})

    def _search(self, test: Gallery, direction: str, listed: IdPairs) -> tuple[npt.NDArray[np.int64], Search]:
        """Rows of the queries, and their search."""
        # ECCV Caption lists two captions that are not among the 25,000: they count as positives and are never found
        inside = self.rows.of(direction, self.rows.in_gallery(direction, listed), self.source)
        similarity = test.searched(direction)
        queries, items = (side.to(similarity.device) for side in inside)
        rows, query = torch.unique(queries, return_inverse=True)
        everything = torch.arange(similarity.shape[1], device=rows.device)
        row_of, _ = self.rows.tables(direction)
        listed_for = Counter(row_of[one] for one, _ in listed)
        amounts = np.array([listed_for[row] for row in rows.tolist()])
        return rows.cpu().numpy(), Search(similarity.select(rows, everything), Pairs(query, items), amounts)


def eccv_scores(search: Search) -> QueryScores:
    """R@1, R@5, R@10, R-Precision and mAP@R."""
    found = list(zip(every_positive_rank(search.similarity, search.positives), search.amounts.tolist(), strict=True))
    return {
        **{f"r{k}": np.array([100.0 * (ranks[0] < k) for ranks, _ in found]) for k in CUTS},
        "rprecision": np.array([100.0 * np.sum(ranks < r) / r for ranks, r in found]),
        "map_at_r": np.array([100.0 * average_precision_at_r(ranks, r) for ranks, r in found]),
    }


def plausible_scores(search: Search) -> QueryScores:
    """R-Precision, for thousands of positives per query."""
    return {"rprecision": 100.0 * r_precision(*search)}


def average_precision_at_r(ranks: np.ndarray, r: int) -> float:
    """Mean over n = 1..R of the precision among the first n if item n is a positive, otherwise of 0.

    Args:
        ranks: ranks of the positives in the gallery, from 0, ascending.
        r: number of positives.
    """
    found = ranks[ranks < r]
    return float(((np.arange(len(found)) + 1) / (found + 1)).sum() / r)


def r_precision(similarity: Similarity, positives: Pairs, amounts: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Share of positives among the first R items, for each row with R positives; ties count against the query."""
    queries, items = similarity.shape
    shares = np.empty(queries)
    order = positives.queries.argsort(stable=True)
    own_items = positives.items[order].split(torch.bincount(positives.queries, minlength=queries).tolist())
    for first in range(0, queries, TILE[0]):
        part = slice(first, min(first + TILE[0], queries))
        for row, everything in enumerate(similarity.tile(part, slice(0, items)), start=first):
            own, r = everything[own_items[row]], int(amounts[row])
            last = everything.kthvalue(items - r + 1).values  # the R-th largest
            others_tied = (everything == last).sum() - (own == last).sum()
            room = r - (everything > last).sum() - others_tied
            shares[row] = ((own > last).sum() + room.clamp(min=0).minimum((own == last).sum())).item() / r
    return shares
