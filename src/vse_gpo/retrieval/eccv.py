"""ECCV Caption (Chun et al. 2022) and plausible matches (Chun et al. 2021): how many of all positives come first."""

from collections import Counter
from dataclasses import dataclass

import numpy as np
import torch

from vse_gpo.retrieval.annotations import CocoRows, IdPairs
from vse_gpo.retrieval.protocols import Test
from vse_gpo.retrieval.ranks import TILE, Pairs, every_positive_rank, full_precision
from vse_gpo.retrieval.recalls import Outcome, Queries
from vse_gpo.retrieval.similarity import Similarity


@dataclass(frozen=True)
class EccvCaption:
    """mAP@R, R-Precision and R@1 in percent, both ways and their means, over the queries that have positives listed."""

    i2t: IdPairs
    t2i: IdPairs
    rows: CocoRows

    def __call__(self, test: Test) -> Outcome:
        queries = []
        for direction, listed, owners in (
            ("i2t", self.i2t, np.arange(test.image_count)),
            ("t2i", self.t2i, test.caption_to_image),
        ):
            # two of the captions listed as positives are none of the 25,000: they count, and are never found
            inside = self.rows.in_gallery(direction, listed)
            rows, similarity, pairs = _searching(test, direction, self.rows.of(direction, inside, "eccv"))
            row_of, _ = self.rows.tables(direction)
            amounts = Counter(row_of[query] for query, _ in listed)
            found = list(
                zip(every_positive_rank(similarity, pairs), [amounts[row] for row in rows.tolist()], strict=True)
            )
            scores = {
                "r1": np.array([100.0 * (ranks[0] == 0) for ranks, _ in found]),
                "rprecision": np.array([100.0 * np.sum(ranks < r) / r for ranks, r in found]),
                "map_at_r": np.array([100.0 * average_precision_at_r(ranks, r) for ranks, r in found]),
            }
            queries.append(Queries(direction=direction, rows=rows, owners=owners[rows], scores=scores))
        names = ("r1", "rprecision", "map_at_r")
        return Outcome(queries=queries, totals={name: {f"i2t_{name}": 0.5, f"t2i_{name}": 0.5} for name in names})


@dataclass(frozen=True)
class PlausibleMatches:
    """R-Precision in percent over plausible matches, thousands for each query."""

    i2t: IdPairs
    t2i: IdPairs
    rows: CocoRows

    def __call__(self, test: Test) -> Outcome:
        queries = []
        for direction, listed, owners in (
            ("i2t", self.i2t, np.arange(test.image_count)),
            ("t2i", self.t2i, test.caption_to_image),
        ):
            rows, similarity, pairs = _searching(test, direction, self.rows.of(direction, listed, "pmrp"))
            scores = {"rprecision": 100.0 * r_precision(similarity, pairs)}
            queries.append(Queries(direction=direction, rows=rows, owners=owners[rows], scores=scores))
        return Outcome(queries=queries, totals={"rprecision": {"i2t_rprecision": 0.5, "t2i_rprecision": 0.5}})


def _searching(test: Test, direction: str, positives: Pairs) -> tuple[np.ndarray, Similarity, Pairs]:
    """The queries that have positives, their similarities to the whole gallery, and the positives among these."""
    similarity = test.similarities.image_caption
    positives = Pairs(positives.queries.to(similarity.device), positives.items.to(similarity.device))
    rows, query = torch.unique(positives.queries, return_inverse=True)
    if direction == "t2i":
        everything = torch.arange(similarity.shape[0], device=rows.device)
        similarity = similarity.select(everything, rows).transpose()
    else:
        everything = torch.arange(similarity.shape[1], device=rows.device)
        similarity = similarity.select(rows, everything)
    return rows.cpu().numpy(), similarity, Pairs(query, positives.items)


def average_precision_at_r(ranks: np.ndarray, r: int) -> float:
    """Mean over n = 1..R of the precision among the first n where item n is a positive, and 0 where it is none.

    Args:
        ranks: of the positives in the gallery, from 0, rising.
        r: number of positives.
    """
    found = ranks[ranks < r]
    return float(((np.arange(len(found)) + 1) / (found + 1)).sum() / r)


def r_precision(similarity: Similarity, positives: Pairs) -> np.ndarray:
    """The share of the first R items that are positives, of each row with R of them; ties count against it."""
    queries, items = similarity.shape
    shares = np.empty(queries)
    order = positives.queries.argsort(stable=True)
    starts = torch.searchsorted(positives.queries[order], torch.arange(queries + 1, device=order.device)).tolist()
    with full_precision():
        for first in range(0, queries, TILE[0]):
            part = slice(first, min(first + TILE[0], queries))
            strip = similarity.tile(part, slice(0, items))
            for row in range(part.start, part.stop):
                own = strip[row - first, positives.items[order[starts[row] : starts[row + 1]]]]
                everything = strip[row - first]
                last = everything.kthvalue(items - len(own) + 1).values  # the R-th largest
                others_tied = (everything == last).sum() - (own == last).sum()
                room = len(own) - (everything > last).sum() - others_tied
                shares[row] = ((own > last).sum() + room.clamp(min=0)).item() / len(own)
    return shares
