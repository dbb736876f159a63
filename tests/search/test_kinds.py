"""Kinds of index: what they find, and how much of it."""

import numpy as np
import pytest
import torch

from tests.helpers.photo_folder import unit, written
from vse_gpo.search.kinds import Flat, Graph, InvertedLists, Kind, faiss, recall_against_exact, searched


def test_the_recall_of_an_approximate_index_is_measured(tmp_path):
    embeddings = torch.nn.functional.normalize(torch.randn(600, 16, generator=torch.Generator().manual_seed(0)), dim=1)
    few, all_of_them = (
        written(tmp_path / str(probes), embeddings, InvertedLists(lists=30, probes=probes)).settings.recall
        for probes in (1, 30)
    )
    assert 5 < few < 70
    assert all_of_them > 99
    assert written(tmp_path / "flat", embeddings).settings.recall is None


@pytest.mark.parametrize("kind", [Flat(), InvertedLists(lists=4, probes=4), Graph()])
def test_what_an_index_asks_first_holds_every_embedding(kind):
    assert isinstance(kind, Kind)
    exact = faiss.IndexFlatIP(16)
    exact.add(unit(300).numpy())
    built = kind.build(exact, np.random.default_rng(0))
    assert (built is None) == isinstance(kind, Flat)
    assert built is None or built.ntotal == 300


def test_an_approximate_index_gives_exact_scores():
    embeddings, queries = unit(300), unit(5, seed=1)
    exact = faiss.IndexFlatIP(16)
    exact.add(embeddings.numpy())
    refined = searched(exact, InvertedLists(lists=10, probes=2).build(exact, np.random.default_rng(0)))
    scores, rows = refined.search(queries.numpy(), 3)
    expected = (queries @ embeddings.T).gather(1, torch.from_numpy(rows))
    torch.testing.assert_close(torch.from_numpy(scores), expected, atol=1e-5, rtol=0)
    assert searched(exact, None) is exact


def test_an_exact_index_finds_everything_and_a_single_embedding_has_no_neighbour():
    for count in (1, 50):
        exact = faiss.IndexFlatIP(16)
        exact.add(unit(count).numpy())
        assert recall_against_exact(exact, exact, np.random.default_rng(0)) == 100.0


@pytest.mark.parametrize("kind", [InvertedLists(), Graph()])
def test_copies_of_one_image_are_all_found(kind):
    exact = faiss.IndexFlatIP(32)
    exact.add(np.ones((50, 32), np.float32) / 32**0.5)
    random = np.random.default_rng(0)
    assert recall_against_exact(exact, searched(exact, kind.build(exact, random)), random) == 100.0
