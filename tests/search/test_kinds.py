"""Kinds of index: what they find, and how much of it."""

import pytest
import torch

from tests.helpers.photo_folder import unit, written
from vse_gpo.search.kinds import Flat, InvertedLists, Kind, kind_of


def test_the_recall_of_an_approximate_index_is_measured(tmp_path):
    embeddings = torch.nn.functional.normalize(torch.randn(200, 16, generator=torch.Generator().manual_seed(0)), dim=1)
    few, all_of_them = (
        written(
            tmp_path / str(probes), embeddings, InvertedLists(lists=16, probes=probes, candidates=20)
        ).settings.recall
        for probes in (1, 16)
    )
    assert 5 < few < 70
    assert all_of_them == 100
    assert written(tmp_path / "flat", embeddings).settings.recall is None


@pytest.mark.parametrize("width", [16, 6])  # bits that fill bytes, and others
def test_an_approximate_index_gives_exact_scores(width, tmp_path):
    embeddings, queries = unit(120, width), unit(5, width, seed=1)
    index = written(tmp_path, embeddings, InvertedLists(lists=10, probes=2))
    for query, line in zip(queries, index.hits(queries, 3), strict=True):
        scores = [float((query.double() @ embeddings[hit.row].double()).float()) for hit in line]
        assert [hit.score for hit in line] == scores == sorted(scores, reverse=True)


@pytest.mark.parametrize("copies", [1, 50])
def test_copies_of_one_image_are_all_found(copies, tmp_path):
    index = written(tmp_path, torch.ones(copies, 32) / 32**0.5, InvertedLists())
    assert index.settings.recall == 100.0


def test_settings_tell_the_kind():
    assert kind_of(None) == Flat()
    assert kind_of({"lists": 3, "probes": 2, "candidates": 5}) == InvertedLists(3, 2, 5)
    assert isinstance(Flat(), Kind)
    assert isinstance(InvertedLists(), Kind)
