"""R@K, median and mean rank, and rSum, computed from the ranks of many queries."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch

from vse_gpo.errors import VSEError
from vse_gpo.retrieval.arrays import Array, Index, float_tensor, read_index, unit_embeddings
from vse_gpo.retrieval.ranks import Ranks, image_caption_ranks
from vse_gpo.retrieval.similarity import Similarities, matrix_similarities, similarities

Metrics = dict[str, float]
CUTS = (1, 5, 10)


@dataclass(frozen=True, kw_only=True)
class Queries:
    """The queries of one direction and the scores of each."""

    direction: str  # i2t, t2i, t2t or i2i
    rows: npt.NDArray[np.int64]  # row of the image or caption that is the query
    owners: npt.NDArray[np.int64]  # row of the image that each query is or belongs to
    scores: Mapping[str, npt.NDArray[np.floating]]  # 0 to 100 for each query
    ranks: npt.NDArray[np.int64] | None = None  # rank of the best positive, from 0
    folds: npt.NDArray[np.int64] | None = None  # fold that each query searches, from 0

    def mean(self, values: npt.NDArray[np.floating] | npt.NDArray[np.integer]) -> float:
        """Mean over the queries, or over the means of the folds."""
        return float(np.mean([values[fold].mean() for fold in self._folds()]))

    def medians(self) -> Metrics:
        """Median and mean rank, counted from 1."""
        if self.ranks is None:
            return {}
        medians = [np.floor(np.median(self.ranks[fold])) + 1 for fold in self._folds()]
        return {f"{self.direction}_medr": float(np.mean(medians)), f"{self.direction}_meanr": self.mean(self.ranks) + 1}

    def _folds(self) -> list[npt.NDArray[np.bool_] | slice]:
        if self.folds is None:
            return [slice(None)]
        return [self.folds == fold for fold in np.unique(self.folds)]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Result of a protocol: its queries, sums of their mean scores, and numbers that do not belong to a query."""

    queries: Sequence[Queries] = ()
    totals: Mapping[str, Mapping[str, float]] = field(default_factory=dict)  # name → {mean score: its weight}
    others: Metrics = field(default_factory=dict)

    def metrics(self) -> Metrics:
        """All numbers by name."""
        metrics: Metrics = {}
        for queries in self.queries:
            metrics |= {f"{queries.direction}_{name}": queries.mean(score) for name, score in queries.scores.items()}
            metrics |= queries.medians()
        totals = {
            total: sum(share * metrics[name] for name, share in shares.items()) for total, shares in self.totals.items()
        }
        return metrics | totals | self.others


RSUM = {"rsum": {f"{direction}_r{k}": 1.0 for direction in ("i2t", "t2i") for k in CUTS}}


def recall_queries(
    direction: str,
    ranks: npt.NDArray[np.int64],
    owners: npt.NDArray[np.int64],
    *,
    rows: npt.NDArray[np.int64] | None = None,
    folds: npt.NDArray[np.int64] | None = None,
) -> Queries:
    """Queries that score 100 if the best positive is among the first 1, 5 or 10, otherwise 0.

    Args:
        direction: i2t, t2i, t2t or i2i.
        ranks: rank of each query's best positive, from 0.
        owners: row of the image of each query.
        rows: row of each query among images or captions; None: all of them in order.
        folds: fold of each query; None: every query searches everything.
    """
    return Queries(
        direction=direction,
        rows=np.arange(len(ranks)) if rows is None else rows,
        owners=owners,
        scores={f"r{k}": 100.0 * (ranks < k) for k in CUTS},
        ranks=ranks,
        folds=folds,
    )


def recall_outcome(
    ranks: Ranks, caption_to_image: npt.NDArray[np.int64], folds: npt.NDArray[np.int64] | None = None
) -> Outcome:
    """Image-to-caption and caption-to-image recalls and their sum.

    Args:
        ranks: ranks of images and captions.
        caption_to_image: row of each caption's image.
        folds: fold of each image; None: every query searches everything.
    """
    images = np.arange(len(ranks.images))
    return Outcome(
        queries=[
            recall_queries("i2t", ranks.images, images, folds=folds),
            recall_queries(
                "t2i", ranks.captions, caption_to_image, folds=None if folds is None else folds[caption_to_image]
            ),
        ],
        totals=RSUM,
    )


def image_caption_recalls(image_embeddings: Array, caption_embeddings: Array, caption_to_image: Index) -> Metrics:
    """R@1, 5, 10 in percent, median and mean rank from 1, in both directions, and rSum, the sum of the six recalls.

    Args:
        image_embeddings: (images, E), scaled to unit length; see ``unit_embeddings``.
        caption_embeddings: (captions, E), scaled to unit length.
        caption_to_image: (captions,) row of each caption's image; any number of captions per image.

    Returns:
        i2t_r1, i2t_r5, i2t_r10, i2t_medr, i2t_meanr, the same for t2i, and rsum.

    Raises:
        VSEError: if an embedding is zero or not finite, or the arguments do not fit each other.

    Example:
        Two images with one caption each, the second caption nearer to the first image:

        >>> image_caption_recalls([[1.0, 0.0], [0.0, 1.0]], [[1.0, 0.0], [0.8, 0.6]], [0, 1])["t2i_r1"]
        50.0
    """
    images, captions = unit_embeddings(image_embeddings, caption_embeddings)
    return _recalls(similarities(images, captions), read_index(caption_to_image, len(captions)))


def matrix_recalls(similarity: Array, caption_to_image: Index) -> Metrics:
    """The same metrics from a similarity matrix, as of a model that compares images and captions without embeddings.

    Ties count against the query: a constant matrix scores nothing.

    Args:
        similarity: (images, captions), larger where they fit better.
        caption_to_image: (captions,) row of each caption's image; any number of captions per image.

    Returns:
        i2t_r1, i2t_r5, i2t_r10, i2t_medr, i2t_meanr, the same for t2i, and rsum.

    Raises:
        VSEError: if a similarity is NaN or infinite, or the arguments do not fit each other.

    Example:
        Two images; the first has two captions, of which one fits the other image as well as its own:

        >>> metrics = matrix_recalls([[0.9, 0.5, 0.1], [0.2, 0.5, 0.8]], [0, 0, 1])
        >>> round(metrics["i2t_r1"], 1), round(metrics["t2i_r1"], 1)
        (100.0, 66.7)
    """
    values = float_tensor(similarity, "similarities")
    if values.ndim != 2 or 0 in values.shape:
        raise VSEError(f"similarities of shape {tuple(values.shape)}, expected (images, captions), none of them 0")
    return _recalls(matrix_similarities(values), read_index(caption_to_image, values.shape[1]))


def _recalls(compared: Similarities, caption_to_image: npt.NDArray[np.int64]) -> Metrics:
    ranks = image_caption_ranks(compared.image_caption, torch.from_numpy(caption_to_image))
    return recall_outcome(ranks, caption_to_image).metrics()
