"""Crisscrossed Captions (Parekh et al. 2021): retrieval with more positives, and correlation with human ratings."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from vse_gpo.errors import VSEError
from vse_gpo.retrieval.annotations import CocoRows, CrisscrossedCaptions, Ratings
from vse_gpo.retrieval.counts import Pairs
from vse_gpo.retrieval.protocols import Gallery
from vse_gpo.retrieval.ranks import best_positive_ranks_among_themselves
from vse_gpo.retrieval.recalls import RSUM, Metrics, Outcome, Queries, recall_queries
from vse_gpo.retrieval.similarity import Similarity, symmetric_entries

SAMPLES = 1000


@dataclass(frozen=True)
class CrisscrossedRecalls:
    """R@K between images and captions and within each; a query without a positive is left out.

    An item is never its own candidate. Captions of one image are positives of each other.
    """

    annotations: CrisscrossedCaptions
    rows: CocoRows

    def __call__(self, test: Gallery) -> Outcome:
        compared, owners = test.similarities, test.caption_to_image
        images = np.arange(test.image_count)
        i2t, t2i = (_on(compared.image_caption, self._pairs(direction)) for direction in ("i2t", "t2i"))
        of_images, of_captions = test.best_ranks(i2t, t2i)
        queries = [_of_ranks("i2t", of_images, images), _of_ranks("t2i", of_captions, owners)]
        for direction, similarity, owner in (
            ("t2t", compared.caption_caption, owners),
            ("i2i", compared.image_image, images),
        ):
            if similarity is not None:
                positives = self._pairs(direction)
                if direction == "t2t":
                    positives = _with_captions_of_one_image(positives, owners)
                ranks = best_positive_ranks_among_themselves(similarity, _on(similarity, positives))
                queries.append(_of_ranks(direction, ranks, owner))
        return Outcome(queries=[one for one in queries if len(one.rows)], totals=RSUM)

    def _pairs(self, direction: str) -> Pairs:
        listed = getattr(self.annotations, direction)
        return self.rows.of(direction, listed, f"cxc ({self.annotations.variant})")


def _on(similarity: Similarity, pairs: Pairs) -> Pairs:
    return Pairs(pairs.queries.to(similarity.device), pairs.items.to(similarity.device))


def _of_ranks(direction: str, ranks: torch.Tensor, owners: npt.NDArray[np.int64]) -> Queries:
    every = ranks.cpu().numpy()
    rows = np.flatnonzero(every >= 0)
    return recall_queries(direction, every[rows], owners[rows], rows=rows)


def _with_captions_of_one_image(positives: Pairs, caption_to_image: npt.NDArray[np.int64]) -> Pairs:
    order = np.argsort(caption_to_image, kind="stable")
    _, starts, group, amounts = np.unique(
        caption_to_image[order], return_index=True, return_inverse=True, return_counts=True
    )
    others = amounts[group]  # captions of each caption's image, itself included
    queries = order.repeat(others)
    number = np.arange(len(queries)) - (others.cumsum() - others).repeat(others)
    items = order[starts[group].repeat(others) + number]
    own = torch.from_numpy((queries * len(order) + items)[queries != items])
    every = torch.cat([own, positives.queries * len(order) + positives.items]).unique()  # each pair once
    return Pairs(every // len(order), every % len(order))


@dataclass(frozen=True)
class CrisscrossedCorrelation:
    """Spearman's correlation of similarities with ratings, times 100, over bootstrap samples.

    Each sample takes half of the queries and one rated item for each. Queries are captions for STS and images for SIS
    and SITS, which reproduces the published spreads.
    """

    annotations: CrisscrossedCaptions
    rows: CocoRows
    seed: int = 0

    def __call__(self, test: Gallery) -> Outcome:
        compared, rated = test.similarities, self.annotations
        if rated.sts is None or rated.sis is None or rated.sits is None:
            raise VSEError(
                f"protocol cxc_correlation needs ratings, which {rated.variant} lack; set cxc= to the folder of "
                "sits_test.csv, sis_test.csv and sts_test.csv"
            )
        metrics: Metrics = {}
        for task, direction, similarity, ratings, symmetric in (
            ("sts", "t2t", compared.caption_caption, _directed_both_ways(rated.sts), True),
            ("sis", "i2i", compared.image_image, _directed_both_ways(rated.sis), True),
            ("sits", "i2t", compared.image_caption, _turned(rated.sits), False),
        ):
            if similarity is not None:
                pairs = _on(similarity, self.rows.of(direction, ratings.pairs, f"cxc {task}"))
                found = symmetric_entries(similarity, *pairs) if symmetric else similarity.pairs(*pairs)
                samples = sampled_correlations(
                    pairs.queries.cpu().numpy(),
                    found.cpu().numpy(),
                    np.array(ratings.scores),
                    np.random.default_rng(self.seed),
                )
                metrics |= {task: 100 * float(samples.mean()), f"{task}_std": 100 * float(samples.std(ddof=1))}
        return Outcome(others=metrics)


def _directed_both_ways(ratings: Ratings) -> Ratings:
    both = dict(zip(*ratings, strict=True))
    for (first, second), score in zip(*ratings, strict=True):
        both.setdefault((second, first), score)
    return Ratings(list(both), list(both.values()))


def _turned(ratings: Ratings) -> Ratings:
    return Ratings([(second, first) for first, second in ratings.pairs], ratings.scores)


def sampled_correlations(
    queries: npt.NDArray[np.int64],
    similarities: npt.NDArray[np.float64],
    scores: npt.NDArray[np.float64],
    random: np.random.Generator,
    samples: int = SAMPLES,
) -> npt.NDArray[np.float64]:
    """Spearman's r of each bootstrap sample: half of the queries, one pair per query.

    Args:
        queries: query of each pair.
        similarities, scores: similarity and rating of each pair.
        random: draws the samples.
        samples: number of samples.
    """
    order = np.argsort(queries, kind="stable")
    _, starts, amounts = np.unique(queries[order], return_index=True, return_counts=True)
    ours, theirs = (np.unique(values[order], return_inverse=True)[1] for values in (similarities, scores))
    drawn = np.empty(samples)
    for sample in range(samples):
        chosen = random.choice(len(starts), len(starts) // 2, replace=False, shuffle=False)
        pairs = starts[chosen] + (random.random(len(chosen)) * amounts[chosen]).astype(np.int64)
        first, second = centred_ranks(ours[pairs]), centred_ranks(theirs[pairs])
        drawn[sample] = first @ second / np.sqrt((first @ first) * (second @ second))
    return drawn


def centred_ranks(levels: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Rank of each value minus the mean rank; values are small integers, and equal values share their mean rank."""
    amounts = np.bincount(levels)
    ranks: npt.NDArray[np.float64] = amounts.cumsum()[levels] - (amounts[levels] + len(levels)) / 2
    return ranks
