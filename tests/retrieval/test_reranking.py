"""Ranks of two stages are those of a plain loop, and those of the second stage where it re-orders everything."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vse_gpo.errors import VSEError
from vse_gpo.retrieval.protocols import Gallery, corrected, run_protocols
from vse_gpo.retrieval.reranking import Rerank, Reranked, keep
from vse_gpo.retrieval.similarity import Matrix, Products, matrix_similarities, similarities

IMAGES, CAPTIONS = 10, 30
INDEX = np.arange(CAPTIONS) // 3


class Dear:
    """A second similarity that is known for all pairs."""

    def __init__(self, values: torch.Tensor) -> None:
        self.values = values

    def searched(self, direction):
        values = self.values if direction == "i2t" else self.values.T
        return lambda query, items: values[query, items]

    def part(self, images, captions):
        return Dear(self.values[images][:, captions])


def drawn(seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    draws = torch.Generator().manual_seed(seed)
    images, captions = (torch.nn.functional.normalize(torch.randn(n, 4, generator=draws)) for n in (IMAGES, CAPTIONS))
    return images, captions, 5 * torch.randn(IMAGES, CAPTIONS, generator=draws)


def run(images, captions, dear, protocols, first, embedding=0.0):
    gallery = Gallery(similarities=similarities(images, captions), caption_to_image=INDEX, bank=Dear(dear))
    return run_protocols(gallery, protocols, corrections={"embedding": keep, "rerank": Rerank(first, embedding)})


def loop_ranks(cheap: np.ndarray, dear: np.ndarray, owned: np.ndarray, first: int) -> list[int]:
    """Strangers ahead of the best own item of every query, one query at a time."""
    ranks = []
    for query in range(len(cheap)):
        order = np.argsort(-cheap[query])
        order = [*sorted(order[:first], key=lambda item: -dear[query, item]), *order[first:]]
        ranks.append(next(place for place, item in enumerate(order) if owned[query, item]))
    return ranks


@given(first=st.integers(1, IMAGES), seed=st.integers(0, 2**16), embedding=st.sampled_from([0.0, 1.0, 7.5]))
def test_ranks_are_those_of_a_plain_loop(first, seed, embedding):
    images, captions, dear = drawn(seed)
    outcome = run(images, captions, dear, ["all+rerank"], first, embedding)["all+rerank"]
    cheap, owned = (images @ captions.T).numpy(), np.arange(IMAGES)[:, None] == INDEX
    total = dear.numpy() + embedding * cheap
    of_images, of_captions = outcome.queries
    assert of_images.ranks.tolist() == loop_ranks(cheap, total, owned, first)
    assert of_captions.ranks.tolist() == loop_ranks(cheap.T, total.T, owned.T, first)


def test_re_ordering_everything_is_ranking_by_the_second_stage():
    images, captions, dear = drawn(3)
    whole = Gallery(similarities=matrix_similarities(dear), caption_to_image=INDEX)
    expected = run_protocols(whole, ["all"])["all"].queries
    gallery = Gallery(similarities=similarities(images, captions), caption_to_image=INDEX, bank=Dear(dear))
    by_images = run_protocols(gallery, ["all+r"], corrections={"r": Rerank(IMAGES)})["all+r"].queries
    assert by_images[1].ranks.tolist() == expected[1].ranks.tolist()
    row = Rerank(CAPTIONS)(Products(images, captions), Dear(dear).searched("i2t"))
    order = row.exact_tile(slice(0, IMAGES), slice(0, CAPTIONS)).argsort(dim=1)
    assert torch.equal(order, dear.double().argsort(dim=1))


def test_the_first_stage_by_itself_is_that_of_the_embeddings():
    images, captions, dear = drawn(4)
    plain = run_protocols(Gallery(similarities=similarities(images, captions), caption_to_image=INDEX), ["all"])
    found = run(images, captions, dear, ["all+embedding"], 3)
    assert found["all+embedding"].metrics() == plain["all"].metrics()


def test_a_fold_is_searched_by_itself():
    images, captions, dear = drawn(5)
    gallery = Gallery(similarities=similarities(images, captions), caption_to_image=INDEX, bank=Dear(dear))
    folds = corrected(gallery, Rerank(2)).own_fold_ranks
    for fold in range(5):
        rows, columns = slice(2 * fold, 2 * fold + 2), slice(6 * fold, 6 * fold + 6)
        part = Gallery(
            similarities=similarities(images[rows], captions[columns]),
            caption_to_image=INDEX[columns] - 2 * fold,
            bank=Dear(dear[rows, columns]),
        )
        alone = corrected(part, Rerank(2)).whole_ranks
        assert folds.images[rows].tolist() == alone.images.tolist()
        assert folds.captions[columns].tolist() == alone.captions.tolist()


def test_a_selection_keeps_the_scores():
    base = Matrix(torch.rand(3, 5, generator=torch.Generator().manual_seed(0)))
    items, scores = torch.tensor([[0, 4], [2, 1], [3, 0]]), torch.rand(3, 2, dtype=torch.float64)
    whole = Reranked(base, items, scores)
    rows, columns = torch.tensor([2, 0]), torch.tensor([4, 3, 0])
    part = whole.select(rows, columns)
    everything = whole.exact_tile(slice(0, 3), slice(0, 5))
    r, c = torch.meshgrid(torch.arange(2), torch.arange(3), indexing="ij")
    found = part.exact_tile(slice(0, 2), slice(0, 3))
    assert torch.equal(found.argsort(dim=1), everything[rows][:, columns].argsort(dim=1))
    assert torch.equal(part.pairs(r.flatten(), c.flatten()).view(2, 3), found)
    torch.testing.assert_close(part.tile(slice(0, 2), slice(1, 3)).double(), found[:, 1:])


@pytest.mark.parametrize(("first", "message"), [(0, "rerank=0, expected at least 1"), (11, "the gallery has 10 items")])
def test_numbers_that_fit_no_gallery_are_refused(first, message):
    images, captions, dear = drawn(0)
    with pytest.raises(VSEError, match=message):
        run(images, captions, dear, ["all+rerank"], first)


def test_an_order_has_one_direction():
    images, captions, dear = drawn(0)
    with pytest.raises(NotImplementedError, match="one direction"):
        Rerank(2)(Products(images, captions), Dear(dear).searched("i2t")).transpose()
