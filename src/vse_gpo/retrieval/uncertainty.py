"""How much a number would vary with other test images, and whether two models really differ."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from vse_gpo.errors import VSEError
from vse_gpo.retrieval.recalls import Outcome, Queries

SAMPLES = 1000
PERMUTATIONS = 10_000
AT_ONCE = 100  # samples


class Interval(NamedTuple):
    """A 95 % confidence interval."""

    low: float
    high: float


class Difference(NamedTuple):
    """Difference of a second model from a first in points, its 95 % interval, and the p-value if they were equal."""

    first: float
    second: float
    difference: float
    interval: Interval
    p_value: float


class _PerImage(NamedTuple):
    """Sum of a score and number of queries, for every fold and image."""

    sums: npt.NDArray[np.float64]  # folds, images
    amounts: npt.NDArray[np.float64]

    def resampled(self, weights: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Mean score of each sample, in which images count as often as their weights say."""
        amounts = weights @ self.amounts.T
        means = np.divide(weights @ self.sums.T, amounts, out=np.zeros_like(amounts), where=amounts > 0)
        return means.mean(1)


def bootstrap_intervals(
    outcome: Outcome, images: int, random: np.random.Generator, samples: int = SAMPLES
) -> dict[str, Interval]:
    """95 % interval of every mean score and total: percentiles over samples of the images with their captions.

    Args:
        outcome: outcome of a protocol.
        images: number of images in the gallery.
        random: draws the samples.
        samples: number of samples.
    """
    per_image = _scores(outcome, images)
    drawn: dict[str, list[npt.NDArray[np.float64]]] = {name: [] for name in per_image}
    for weights in _in_parts(samples, lambda part: random.multinomial(images, np.full(images, 1 / images), part)):
        for name, scores in per_image.items():
            drawn[name].append(scores.resampled(weights))
    values = {name: np.concatenate(parts) for name, parts in drawn.items()}
    values |= _totals(outcome, values)
    return {name: _interval(value) for name, value in values.items()}


def compare(
    first: Outcome,
    second: Outcome,
    images: int,
    random: np.random.Generator,
    samples: int = SAMPLES,
    permutations: int = PERMUTATIONS,
) -> dict[str, Difference]:
    """Paired difference of every mean score and total of two models on the same queries.

    The p-value comes from a permutation test, which swaps the two models' scores image by image, an image together
    with its captions.

    Args:
        first, second: outcomes of one protocol.
        images: number of images in the gallery.
        random: draws samples and permutations.
        samples, permutations: number of each.

    Raises:
        VSEError: if the outcomes have different queries.
    """
    _check_same_queries(first, second)
    a, b = _scores(first, images), _scores(second, images)
    gaps = {name: _PerImage(b[name].sums - a[name].sums, a[name].amounts) for name in a}
    resampled: dict[str, list[npt.NDArray[np.float64]]] = {name: [] for name in gaps}
    exchanged: dict[str, list[npt.NDArray[np.float64]]] = {name: [] for name in gaps}
    for weights in _in_parts(samples, lambda part: random.multinomial(images, np.full(images, 1 / images), part)):
        for name, gap in gaps.items():
            resampled[name].append(gap.resampled(weights))
    for signs in _in_parts(permutations, lambda part: random.choice((-1.0, 1.0), size=(part, images))):
        for name, gap in gaps.items():
            exchanged[name].append(((signs @ gap.sums.T) / gap.amounts.sum(1)).mean(1))
    drawn = {name: np.concatenate(parts) for name, parts in resampled.items()}
    null = {name: np.concatenate(parts) for name, parts in exchanged.items()}
    drawn |= _totals(first, drawn)
    null |= _totals(first, null)
    ours, theirs = first.metrics(), second.metrics()
    return {
        name: Difference(
            ours[name],
            theirs[name],
            theirs[name] - ours[name],
            _interval(drawn[name]),
            float((1 + (np.abs(null[name]) >= abs(theirs[name] - ours[name]) - 1e-9).sum()) / (1 + len(null[name]))),
        )
        for name in drawn
    }


def _scores(outcome: Outcome, images: int) -> dict[str, _PerImage]:
    return {
        f"{queries.direction}_{name}": _per_image(queries, score, images)
        for queries in outcome.queries
        for name, score in queries.scores.items()
    }


def _per_image(queries: Queries, score: npt.NDArray[np.floating], images: int) -> _PerImage:
    folds = np.zeros(len(score), dtype=np.int64) if queries.folds is None else queries.folds
    shape = (int(folds.max()) + 1, images)
    place = np.ravel_multi_index((folds, queries.owners), shape)
    sums, amounts = (
        np.bincount(place, weight, minlength=shape[0] * images).reshape(shape)
        for weight in (score, np.ones(len(score)))
    )
    return _PerImage(sums.astype(np.float64), amounts.astype(np.float64))


def _totals(outcome: Outcome, values: dict[str, npt.NDArray[np.float64]]) -> dict[str, npt.NDArray[np.float64]]:
    return {
        total: np.sum([share * values[name] for name, share in shares.items()], axis=0)
        for total, shares in outcome.totals.items()
    }


def _in_parts(total: int, draw: Callable[[int], npt.NDArray[np.generic]]) -> Iterator[npt.NDArray[np.float64]]:
    for first in range(0, total, AT_ONCE):
        yield draw(min(AT_ONCE, total - first)).astype(np.float64)


def _interval(values: npt.NDArray[np.float64]) -> Interval:
    low, high = np.percentile(values, (2.5, 97.5))
    return Interval(float(low), float(high))


def _check_same_queries(first: Outcome, second: Outcome) -> None:
    def described(queries: Sequence[Queries]) -> list[tuple[str, list[int], list[int], list[str]]]:
        return [(one.direction, one.rows.tolist(), one.owners.tolist(), list(one.scores)) for one in queries]

    if described(first.queries) != described(second.queries):
        raise VSEError(
            "the two evaluations have different queries or scores; compare the same protocol on one test set"
        )
