"""The recalls of a random order, against a plain loop and against random orders."""

import doctest

import numpy as np
import pytest

from vse_gpo.retrieval import chance
from vse_gpo.retrieval.chance import chance_recalls
from vse_gpo.retrieval.ranks import Ranks
from vse_gpo.retrieval.recalls import Outcome, Queries, recall_outcome


def found(size: int, positives: int, k: int) -> float:
    """Chance that one of the positives is among the first k, drawn one after the other."""
    missed = 1.0
    for drawn in range(min(k, size)):
        missed *= max(0, size - positives - drawn) / (size - drawn)
    return 100 * (1 - missed)


@pytest.mark.parametrize("folds", [None, np.array([0, 0, 0, 1, 1, 1])])
def test_recalls_of_a_random_order_equal_a_plain_loop(folds):
    owners = np.array([0, 0, 0, 1, 2, 2, 3, 3, 4, 4, 4, 4, 5])
    ranks = Ranks(np.zeros(6, dtype=np.int64), np.zeros(13, dtype=np.int64))
    got = chance_recalls(recall_outcome(ranks, owners, folds))
    fold_of = np.zeros(6, dtype=int) if folds is None else folds
    for k in (1, 5, 10):
        means = {"i2t": [], "t2i": []}
        for fold in set(fold_of.tolist()):
            images = [row for row in range(6) if fold_of[row] == fold]
            captions = [row for row in range(13) if fold_of[owners[row]] == fold]
            means["i2t"].append(np.mean([found(len(captions), int((owners == row).sum()), k) for row in images]))
            means["t2i"].append(found(len(images), 1, k))
        for direction, values in means.items():
            assert got[f"{direction}_r{k}"] == pytest.approx(np.mean(values))
    assert got["rsum"] == pytest.approx(sum(value for name, value in got.items() if name != "rsum"))


def test_random_orders_come_near_it():
    draws, owners = np.random.default_rng(0), np.arange(40).repeat(2)
    runs = []
    for _ in range(200):
        of_images = np.array([min(draws.permutation(80)[:2]) for _ in range(40)])
        runs.append(recall_outcome(Ranks(of_images, draws.integers(40, size=80)), owners).metrics())
    expected = chance_recalls(recall_outcome(Ranks(of_images, draws.integers(40, size=80)), owners))
    for name, value in expected.items():
        assert np.mean([run[name] for run in runs]) == pytest.approx(value, rel=0.1)


def test_other_queries_have_no_chance_level():
    ranks = Ranks(np.zeros(2, dtype=np.int64), np.zeros(2, dtype=np.int64))
    [images, captions] = recall_outcome(ranks, np.arange(2)).queries
    scored = Queries(direction="t2i", rows=captions.rows, owners=captions.owners, scores={"map_at_r": np.ones(2)})
    assert chance_recalls(Outcome(queries=[images])) == {}
    assert chance_recalls(Outcome(queries=[images, scored])) == {}
    assert chance_recalls(Outcome(others={"sts": 0.5})) == {}


def test_its_example():
    assert doctest.testmod(chance).failed == 0
