"""Exact search beside a plain loop: the same images, scores and order, ties included."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vse_gpo.search.scan import best, exact_scores, in_blocks, in_order, nearest


def plain(
    queries: torch.Tensor, embeddings: torch.Tensor, rows: list[int], top: int
) -> list[list[tuple[float, int, str]]]:
    """Every score on its own; the best, equal ones by name."""
    found = []
    for query in queries.double():
        hits = [(float((query * embeddings[row].double()).sum().float()), row, name(row)) for row in rows]
        found.append(sorted(hits, key=lambda hit: (-hit[0], hit[2]))[:top])
    return found


def name(row: int) -> str:
    """Names are in another order than rows."""
    return f"{(row * 7919) % 1000:03d}.png"


def drawn(images: int, copies: int, width: int, queries: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    random = np.random.default_rng(seed)
    embeddings = random.standard_normal((images, width)).astype(np.float32)
    embeddings[random.integers(0, images, copies)] = embeddings[0]  # ties
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    asked = np.concatenate([embeddings[:1], random.standard_normal((queries, width)).astype(np.float32)])
    asked /= np.linalg.norm(asked, axis=1, keepdims=True)
    return torch.from_numpy(embeddings), torch.from_numpy(asked)


def searched(queries, embeddings, rows, top, block):
    chosen = None if rows is None else torch.tensor(rows, dtype=torch.long)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("vse_gpo.search.scan.SCORES", block * len(queries))
        found = nearest(queries, in_blocks(embeddings, chosen, len(queries)), top)
    return [in_order(one, [name(row) for row in one.rows.tolist()], top) for one in found]


@given(
    images=st.integers(1, 200),
    copies=st.integers(0, 200),
    width=st.sampled_from([3, 16, 64]),
    queries=st.integers(1, 4),
    top=st.integers(1, 200),
    block=st.sampled_from([1, 7, 64, 1000]),
    part=st.booleans(),
    seed=st.integers(0, 10_000),
)
def test_answers_are_those_of_a_loop(images, copies, width, queries, top, block, part, seed):
    embeddings, asked = drawn(images, copies, width, queries, seed)
    rows = list(range(0, images, 3)) if part else None
    expected = plain(asked, embeddings, rows if part else list(range(images)), top)
    assert searched(asked, embeddings, rows, top, block) == expected


def test_fewer_images_are_the_first_of_more():
    embeddings, asked = drawn(150, 120, 16, 3, 1)
    most = searched(asked, embeddings, None, 150, 40)
    for top in (1, 5, 60):
        assert searched(asked, embeddings, None, top, 33) == [line[:top] for line in most]


def test_no_rows_give_no_hits():
    embeddings, asked = drawn(10, 0, 8, 1, 0)
    assert searched(asked, embeddings, [], 3, 100) == [[], []]


def test_scores_are_those_of_float64_and_ties_with_the_last_are_kept():
    embeddings, asked = drawn(20, 0, 8, 1, 2)
    numbers, places = torch.tensor([0, 1, 1]), torch.tensor([3, 3, 4])
    expected = (asked[numbers].double() * embeddings[places].double()).sum(1).float()
    assert torch.equal(exact_scores(asked, numbers, embeddings, places), expected)
    kept = best(torch.tensor([0.5, 0.7, 0.5, 0.1]), torch.tensor([4, 2, 9, 1]), 2)
    assert (kept.scores.tolist(), kept.rows.tolist()) == ([0.5, pytest.approx(0.7), 0.5], [4, 2, 9])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_gives_the_same_answers():
    embeddings, asked = drawn(5000, 3000, 256, 20, 0)
    assert searched(asked, embeddings.cuda(), None, 50, 1000) == searched(asked, embeddings, None, 50, 1000)
