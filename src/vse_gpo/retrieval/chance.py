"""What a model that knows nothing would score: recalls of a random order."""

from math import comb

import numpy as np
import numpy.typing as npt

from vse_gpo.retrieval.recalls import CUTS, Metrics, Outcome, Queries


def chance_recalls(outcome: Outcome) -> Metrics:
    """Expected recalls and totals of a random order, for an outcome whose positives are an image and its own captions.

    A query with p positives among n items finds none of them among its first k with probability
    C(n − p, k) / C(n, k); the recall is the mean of the complements, in a fold of the fold's own items.

    Args:
        outcome: of image-to-caption and caption-to-image queries, every item of a gallery being a query once.

    Returns:
        the same names as ``outcome.metrics()`` has for recalls and totals; nothing if there are other queries.

    Example:
        >>> from vse_gpo.retrieval.recalls import recall_outcome, Ranks
        >>> ranks = Ranks(np.zeros(4, dtype=np.int64), np.zeros(8, dtype=np.int64))
        >>> found = chance_recalls(recall_outcome(ranks, np.arange(4).repeat(2)))
        >>> found["i2t_r1"], found["t2i_r1"]
        (25.0, 25.0)
    """
    sides = {queries.direction: queries for queries in outcome.queries}
    if sides.keys() != {"i2t", "t2i"} or any(queries.ranks is None for queries in outcome.queries):
        return {}
    images, captions = sides["i2t"], sides["t2i"]
    owned = np.bincount(captions.owners, minlength=int(images.owners.max()) + 1)
    found = {
        f"{queries.direction}_r{k}": queries.mean(_chance(queries, others, positives, k))
        for queries, others, positives in (
            (images, captions, owned[images.owners]),
            (captions, images, np.ones(len(captions.rows), dtype=np.int64)),
        )
        for k in CUTS
    }
    totals = {
        total: sum(share * found[name] for name, share in shares.items()) for total, shares in outcome.totals.items()
    }
    return found | totals


def _chance(queries: Queries, others: Queries, positives: npt.NDArray[np.int64], k: int) -> npt.NDArray[np.float64]:
    """Chance of each query, 0 to 100; ``others`` are the items that it searches."""
    own = np.zeros(len(queries.rows), dtype=np.int64) if queries.folds is None else queries.folds
    theirs = np.zeros(len(others.rows), dtype=np.int64) if others.folds is None else others.folds
    sizes = np.bincount(theirs)[own]
    kinds, kind_of = np.unique(np.stack([sizes, positives]), axis=1, return_inverse=True)
    values = [100.0 * (1 - comb(int(n - p), min(k, int(n))) / comb(int(n), min(k, int(n)))) for n, p in kinds.T]
    return np.array(values)[kind_of.ravel()]
