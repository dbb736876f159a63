"""Crisscrossed Captions against the released program and plain loops."""

import numpy as np
import pytest
import torch

import vse_gpo.retrieval.counts as counts_module
from tests.golden import CXC, load
from vse_gpo.errors import VSEError
from vse_gpo.retrieval.annotations import (
    CocoRows,
    CrisscrossedCaptions,
    Ratings,
    read_crisscrossed,
)
from vse_gpo.retrieval.crisscrossed import (
    CrisscrossedCorrelation,
    CrisscrossedRecalls,
    centred_ranks,
    sampled_correlations,
)
from vse_gpo.retrieval.protocols import Gallery
from vse_gpo.retrieval.similarity import matrix_similarities, similarities


@pytest.fixture
def golden_test() -> Gallery:
    golden = load("cxc")
    return Gallery(
        similarities=similarities(golden["image_embeddings"], golden["caption_embeddings"]),
        caption_to_image=np.arange(40).repeat(5),
    )


def golden_rows() -> CocoRows:
    image_ids = (CXC / "testall_ids.txt").read_text().split()[::5]
    return CocoRows(image_ids, (CXC / "testall_capids.txt").read_text().split())


def test_recalls_of_released_annotations_equal_the_released_program(golden_test):
    golden = load("cxc")
    outcome = CrisscrossedRecalls(read_crisscrossed(CXC), golden_rows())(golden_test)
    metrics = outcome.metrics()
    for direction in ("i2t", "t2i", "t2t", "i2i"):
        found = [metrics[f"{direction}_r{k}"] for k in (1, 5, 10)]
        assert found == pytest.approx(golden[direction].tolist(), abs=1e-10)


def test_without_embeddings_only_images_and_captions_are_compared(golden_test):
    compared = golden_test.similarities.image_caption
    matrix = matrix_similarities(compared.tile(slice(0, 40), slice(0, 200)))
    test = Gallery(similarities=matrix, caption_to_image=golden_test.caption_to_image)
    metrics = CrisscrossedRecalls(read_crisscrossed(CXC), golden_rows())(test).metrics()
    assert metrics["i2t_r1"] == pytest.approx(float(load("cxc")["i2t"][0]))
    assert not any(name.startswith(("t2t", "i2i")) for name in metrics)


def plain_recalls(similarity: list[list[float]], positives: dict[int, set[int]], itself: bool) -> dict[int, float]:
    """R@K by sorting each query's candidates, its positives last among equals."""
    hits = {1: 0, 5: 0, 10: 0}
    for query, matches in positives.items():
        candidates = [item for item in range(len(similarity[query])) if not (itself and item == query)]
        candidates.sort(key=lambda item: (-similarity[query][item], item in matches))
        for k in hits:
            hits[k] += any(item in matches for item in candidates[:k])
    return {k: 100 * hit / len(positives) for k, hit in hits.items()}


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("crowded", [1.0, 0.01])
def test_recalls_equal_a_plain_loop_with_many_ties(seed, crowded, monkeypatch):
    monkeypatch.setattr(counts_module, "CROWDED", crowded)
    random = np.random.default_rng(seed)
    images = torch.from_numpy(random.integers(-1, 2, (12, 8))).double()
    captions = torch.from_numpy(random.integers(-1, 2, (30, 8))).double()
    owners = np.sort(np.concatenate([np.arange(12), random.integers(12, size=18)]))
    t2i = sorted(
        {(c, int(owners[c])) for c in range(30)} | {(int(c), int(i)) for c, i in random.integers(12, size=(9, 2))}
    )
    t2t = sorted({(int(a), int(b)) for a, b in random.integers(30, size=(20, 2)) if a != b})
    i2i = sorted({(int(a), int(b)) for a, b in random.integers(12, size=(8, 2)) if a != b})
    crossed = CrisscrossedCaptions(variant="made up", i2t=[(i, c) for c, i in t2i], t2i=t2i, t2t=t2t, i2i=i2i)
    rows = CocoRows([str(n) for n in range(12)], [str(n) for n in range(30)])
    metrics = CrisscrossedRecalls(crossed, rows)(
        Gallery(similarities=similarities(images, captions), caption_to_image=owners)
    ).metrics()

    def matches(pairs: list[tuple[int, int]]) -> dict[int, set[int]]:
        return {query: {item for one, item in pairs if one == query} for query, _ in pairs}

    own = [(a, b) for a in range(30) for b in range(30) if a != b and owners[a] == owners[b]]
    for direction, queries, gallery, pairs, itself in (
        ("i2t", images, captions, crossed.i2t, False),
        ("t2i", captions, images, crossed.t2i, False),
        ("t2t", captions, captions, [*crossed.t2t, *own], True),
        ("i2i", images, images, crossed.i2i, True),
    ):
        expected = plain_recalls((queries @ gallery.T).tolist(), matches(pairs), itself)
        for k, value in expected.items():
            assert metrics[f"{direction}_r{k}"] == pytest.approx(value), (direction, k)


def test_equal_values_share_the_mean_of_their_ranks():
    assert centred_ranks(np.array([3, 0, 3, 1])).tolist() == [2.5 - 1.5, 0.0 - 1.5, 2.5 - 1.5, 1.0 - 1.5]


def plain_spearman(first: list[float], second: list[float]) -> float:
    def ranks(values):
        return [sum(v < x for v in values) + (sum(v == x for v in values) - 1) / 2 for x in values]

    return float(np.corrcoef(ranks(first), ranks(second))[0, 1])


def test_each_sample_is_the_correlation_of_half_of_the_queries():
    random = np.random.default_rng(0)
    queries = np.repeat(np.arange(8), 1)
    similarities_, scores = random.standard_normal(8), random.integers(0, 4, 8).astype(float)
    drawn = sampled_correlations(queries, similarities_, scores, np.random.default_rng(1), samples=3)
    again = np.random.default_rng(1)
    for value in drawn:
        chosen = again.choice(8, 4, replace=False, shuffle=False)
        again.random(4)  # one pair each
        assert value == pytest.approx(plain_spearman(similarities_[chosen].tolist(), scores[chosen].tolist()))


def test_correlation_is_perfect_where_similarities_are_the_ratings():
    images = torch.nn.functional.normalize(torch.randn(12, 6, generator=torch.Generator().manual_seed(0)), dim=1)
    captions = images.roll(1, 0)
    every = [(a, b) for a in range(12) for b in range(12) if a != b]

    def rated(first, second, pairs):
        return Ratings(pairs, [float(first[a] @ second[b]) for a, b in pairs])

    crossed = CrisscrossedCaptions(
        variant="made up",
        i2t=[],
        t2i=[],
        t2t=[],
        i2i=[],
        sits=rated(captions.double(), images.double(), every),
        sis=rated(images.double(), images.double(), every),
        sts=rated(captions.double(), captions.double(), every),
    )
    rows = CocoRows([str(n) for n in range(12)], [str(n) for n in range(12)])
    test = Gallery(similarities=similarities(images, captions), caption_to_image=np.arange(12))
    metrics = CrisscrossedCorrelation(crossed, rows)(test).metrics()
    assert [metrics[task] for task in ("sts", "sis", "sits")] == pytest.approx([100.0] * 3)
    assert metrics["sts_std"] == pytest.approx(0.0, abs=1e-6)


def test_released_annotations_hold_no_ratings(golden_test):
    with pytest.raises(VSEError, match="needs ratings"):
        CrisscrossedCorrelation(read_crisscrossed(CXC), golden_rows())(golden_test)
