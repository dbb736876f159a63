"""Kinds of index: exact, or approximate for collections where comparing every embedding takes too long.

An approximate index only proposes candidates; their scores are then computed from the exact embeddings (``candidates``
times as many as asked for), so that a score means the same in every kind.
"""

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from vse_gpo.errors import VSEError

try:
    import faiss as faiss  # noqa: PLC0414, index.py takes it from here
except ImportError as error:
    raise VSEError("the search needs FAISS, which is not installed; pip install 'vse_gpo[search]'") from error

SAMPLE = 64  # embeddings per list, to find the lists
TIE = 1e-6  # scores closer than this are equal
BLOCK = 16384  # embeddings at once


@runtime_checkable
class Kind(Protocol):
    """Makes the index that a search uses first."""

    def build(self, exact: faiss.IndexFlatIP, random: np.random.Generator) -> faiss.Index | None:
        """An approximate index of the same embeddings; None if the exact one is searched itself."""


@dataclass(frozen=True)
class Flat:
    """Compares every embedding: exact."""

    def build(self, exact: faiss.IndexFlatIP, random: np.random.Generator) -> None:
        return None


@dataclass(frozen=True)
class InvertedLists:
    """Embeddings in lists around centroids, one byte per dimension; a search reads only the nearest lists.

    Args:
        lists: number of lists; None takes the square root of the number of embeddings.
        probes: lists that a search reads; more lists find more and take longer.
    """

    lists: int | None = None
    probes: int = 32

    def build(self, exact: faiss.IndexFlatIP, random: np.random.Generator) -> faiss.Index:
        lists = min(self.lists or round(exact.ntotal**0.5), exact.ntotal)
        index: Any = faiss.index_factory(exact.d, f"IVF{lists},SQ8", faiss.METRIC_INNER_PRODUCT)
        index.cp.min_points_per_centroid = 1  # FAISS warns about small collections otherwise
        rows = random.choice(exact.ntotal, min(exact.ntotal, SAMPLE * lists), replace=False)
        index.train(exact.reconstruct_batch(np.sort(rows)))
        index.nprobe = min(self.probes, lists)
        return _add_all(index, exact)


@dataclass(frozen=True)
class Graph:
    """A graph of neighbours (HNSW, Malkov and Yashunin 2018), one byte per dimension; slow to build, fast to search.

    Args:
        links: links of each embedding to others.
        effort: candidates that a search keeps; more candidates find more and take longer.
    """

    links: int = 32
    effort: int = 64

    def build(self, exact: faiss.IndexFlatIP, random: np.random.Generator) -> faiss.Index:
        index: Any = faiss.index_factory(exact.d, f"HNSW{self.links}_SQ8", faiss.METRIC_INNER_PRODUCT)
        rows = random.choice(exact.ntotal, min(exact.ntotal, BLOCK), replace=False)
        index.train(exact.reconstruct_batch(np.sort(rows)))
        index.hnsw.efSearch = self.effort
        return _add_all(index, exact)


def _add_all(index: faiss.Index, exact: faiss.IndexFlatIP) -> faiss.Index:
    for first in range(0, exact.ntotal, BLOCK):
        index.add(exact.reconstruct_n(first, min(BLOCK, exact.ntotal - first)))
    return index


def searched(exact: faiss.IndexFlatIP, approximate: faiss.Index | None, candidates: int = 4) -> faiss.Index:
    """The index to search: the exact one, or the approximate one with candidates re-ranked by exact embeddings."""
    if approximate is None:
        return exact
    refined = faiss.IndexRefine(approximate, exact)
    refined.k_factor = candidates
    return refined


def recall_against_exact(
    exact: faiss.IndexFlatIP,
    index: faiss.Index,
    random: np.random.Generator,
    *,
    queries: int = 500,
    top: int = 10,
) -> float:
    """Percentage of the true nearest neighbours that an index finds, with a sample of its own embeddings as queries.

    Every query is among the embeddings and does not count as its own neighbour. What scores as high as the last true
    neighbour is as good: copies of an image are one another's neighbours in any order.
    """
    rows = random.choice(exact.ntotal, min(exact.ntotal, queries), replace=False)
    asked: Float[np.ndarray, "queries dim"] = exact.reconstruct_batch(np.sort(rows))
    top = min(top + 1, exact.ntotal)
    (found_scores, found), (scores, nearest) = (which.search(asked, top) for which in (index, exact))
    hits = expected = 0
    for number, own in enumerate(np.sort(rows)):
        others = scores[number][nearest[number] != own][: top - 1]
        if len(others):
            good = (found_scores[number] >= others[-1] - TIE) & (found[number] != own) & (found[number] >= 0)
            hits += min(int(good.sum()), len(others))
            expected += len(others)
    return 100 * hits / expected if expected else 100.0
