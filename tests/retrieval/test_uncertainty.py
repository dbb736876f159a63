import numpy as np
import pytest

from vse_gpo.errors import VSEError
from vse_gpo.retrieval.ranks import Ranks
from vse_gpo.retrieval.recalls import Outcome, recall_outcome
from vse_gpo.retrieval.uncertainty import bootstrap_intervals, compare

IMAGES, PER_IMAGE = 200, 5
INDEX = np.arange(IMAGES).repeat(PER_IMAGE)


def outcome(share: float, seed: int, folds: int = 1) -> Outcome:
    """Queries of which a share finds its match first, drawn independently."""
    random = np.random.default_rng(seed)
    ranks = Ranks(*(np.where(random.random(n) < share, 0, 20) for n in (IMAGES, IMAGES * PER_IMAGE)))
    return recall_outcome(ranks, INDEX, None if folds == 1 else np.arange(IMAGES) // (IMAGES // folds))


def plain_bootstrap(one: Outcome, samples: int) -> np.ndarray:
    """t2i R@1 of resampled images with all their captions, sample by sample."""
    random = np.random.default_rng(1)
    hits = one.queries[1].scores["r1"].reshape(IMAGES, PER_IMAGE)
    return np.array([hits[random.integers(IMAGES, size=IMAGES)].mean() for _ in range(samples)])


@pytest.mark.parametrize("folds", [1, 5])
def test_intervals_are_those_of_a_plain_bootstrap(folds):
    one = outcome(0.6, seed=0, folds=folds)
    intervals = bootstrap_intervals(one, IMAGES, np.random.default_rng(0), samples=2000)
    low, high = np.percentile(plain_bootstrap(one, 2000), (2.5, 97.5))
    assert intervals["t2i_r1"].low == pytest.approx(low, abs=0.4)
    assert intervals["t2i_r1"].high == pytest.approx(high, abs=0.4)
    metrics = one.metrics()
    for name, (low, high) in intervals.items():
        assert low <= metrics[name] <= high


def test_an_interval_covers_the_truth_about_as_often_as_it_says():
    covered = 0
    for seed in range(100):
        low, high = bootstrap_intervals(outcome(0.6, seed), IMAGES, np.random.default_rng(seed), 300)["t2i_r1"]
        covered += low <= 60.0 <= high
    assert 88 <= covered <= 100


def test_the_same_seed_gives_the_same_interval():
    one = outcome(0.5, seed=0)
    first, second = (bootstrap_intervals(one, IMAGES, np.random.default_rng(3), 100) for _ in range(2))
    assert first == second


def test_a_model_does_not_differ_from_itself():
    one = outcome(0.6, seed=0)
    for gap in compare(one, one, IMAGES, np.random.default_rng(0), 100, 100).values():
        assert (gap.difference, gap.p_value, gap.interval) == (0.0, 1.0, (0.0, 0.0))


def test_equal_models_rarely_differ_and_unequal_ones_do():
    p_values = [
        compare(outcome(0.6, seed), outcome(0.6, seed + 1000), IMAGES, np.random.default_rng(seed), 10, 400)[
            "t2i_r1"
        ].p_value
        for seed in range(60)
    ]
    assert sum(p < 0.05 for p in p_values) <= 8  # three expected
    gaps = compare(outcome(0.6, 0), outcome(0.7, 1), IMAGES, np.random.default_rng(0))
    assert gaps["t2i_r1"].p_value < 0.01
    assert gaps["rsum"].difference == pytest.approx(gaps["rsum"].second - gaps["rsum"].first)
    assert gaps["t2i_r1"].interval.low < gaps["t2i_r1"].difference < gaps["t2i_r1"].interval.high


def test_different_queries_cannot_be_compared():
    one = outcome(0.6, seed=0)
    other = Outcome(queries=one.queries[:1], totals={})
    with pytest.raises(VSEError, match="different queries"):
        compare(one, other, IMAGES, np.random.default_rng(0))
