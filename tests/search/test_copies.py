"""Copies by arrays: what a plain loop finds, in blocks of any size."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vse_gpo.search import copies
from vse_gpo.search.copies import (
    SMALLEST,
    NearPairs,
    exact_copies,
    groups_of,
    near_copies,
    near_hashes,
    usual_distance,
    without_copies,
)


def unit(count: int, random: np.random.Generator) -> np.ndarray:
    rows = random.standard_normal((count, 8), dtype=np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_equal_contents_are_grouped_in_order():
    assert exact_copies(["a", "b", "a", "c", "b", "a"]) == [[0, 2, 5], [1, 4]]
    assert exact_copies(["a", "b"]) == exact_copies([]) == []
    assert without_copies([[0, 2, 5], [1, 4]], 6).tolist() == [True, True, False, True, False, False]


@given(
    values=st.lists(st.integers(-(2**63), 2**63 - 1) | st.integers(0, 15), max_size=30),
    bits=st.integers(0, 64),
    block=st.integers(1, 100),
)
def test_near_hashes_are_those_of_a_plain_loop(values, bits, block):
    expected = {}
    for second, other in enumerate(values):
        for first, one in enumerate(values[:second]):
            differing = sum((one >> place ^ other >> place) & 1 for place in range(64))
            if differing <= bits:
                expected[first, second] = differing
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(copies, "BLOCK", block)
        found = [*near_hashes(np.array(values, np.int64), bits)]
    pairs = [pair for block in found for pair in zip(*map(np.ndarray.tolist, block), strict=True)]
    assert {(first, second): differing for first, second, differing in pairs} == expected
    assert len(pairs) == len(expected)


@given(seed=st.integers(0, 1000), limit=st.floats(0, 64), compared=st.integers(1, 50))
def test_near_copies_are_those_of_a_plain_loop(seed, limit, compared):
    random = np.random.default_rng(seed)
    phashes = random.integers(2**20, size=20) * 2**40
    embeddings = unit(20, random)
    embeddings[10:] = embeddings[:10] + 0.2 * unit(10, random)
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    usual = usual_distance(embeddings, np.random.default_rng(0))
    expected = {}
    for second in range(20):
        for first in range(second):
            bits = bin(int(phashes[first] ^ phashes[second])).count("1")
            distance = (1 - float(embeddings[first].astype(float) @ embeddings[second])) / usual
            expected[first, second] = (bits, distance, bits + 20 * distance)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(copies, "COMPARED", compared)
        found = near_copies(phashes, embeddings, limit=limit, random=np.random.default_rng(0))
    rows = zip(found.first.tolist(), found.second.tolist(), strict=True)
    values = dict(zip(rows, zip(found.bits, found.distances, found.differences, strict=True), strict=True))
    for pair, numbers in expected.items():
        if abs(numbers[2] - limit) > 1e-4:  # rounding decides the others
            assert (pair in values) == (numbers[2] < limit)
    for pair, numbers in values.items():
        assert numbers == pytest.approx(expected[pair], abs=1e-4)


def test_the_usual_distance_is_the_median():
    random = np.random.default_rng(0)
    embeddings = unit(60, random)
    apart = 1 - embeddings @ embeddings.T
    exact = np.median(apart[np.triu_indices(60, 1)])
    assert usual_distance(embeddings, random) == pytest.approx(exact, abs=0.02)
    assert usual_distance(embeddings[:1], random) == usual_distance(embeddings[:0], random) == SMALLEST


@pytest.mark.parametrize("count", [0, 1, 2])
def test_few_images_are_no_special_case(count):
    random = np.random.default_rng(0)
    same = np.ones((count, 4), np.float32) / 2
    found = near_copies(np.zeros(count, np.int64), same, limit=0, random=random)
    assert groups_of(found, count) == ([[0, 1]] if count == 2 else [])
    assert (found.differences == 0).all()


def test_groups_are_what_pairs_join():
    first, second = np.array([4, 0, 1]), np.array([5, 2, 4])
    pairs = NearPairs(first, second, np.zeros(3, np.int64), np.zeros(3), np.zeros(3))
    assert groups_of(pairs, 7) == [[0, 2], [1, 4, 5]]
