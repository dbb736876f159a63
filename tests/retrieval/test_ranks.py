"""Ranks against a plain loop: ties count against the query."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import vse_gpo.retrieval.counts as counts_module
from vse_gpo.errors import VSEError
from vse_gpo.retrieval import image_caption_recalls
from vse_gpo.retrieval.ranks import image_caption_ranks
from vse_gpo.retrieval.similarity import Matrix, Products


def plain_ranks(images, captions, index) -> tuple[list[int], list[int]]:
    """Query by query over the whole matrix."""
    similarity = (images @ captions.T).tolist()
    of_images, of_captions = [], []
    for image, row in enumerate(similarity):
        best = max(value for value, owner in zip(row, index, strict=True) if owner == image)
        of_images.append(sum(value >= best for value, owner in zip(row, index, strict=True) if owner != image))
    for caption, owner in enumerate(index):
        own = similarity[owner][caption]
        of_captions.append(sum(row[caption] >= own for image, row in enumerate(similarity) if image != owner))
    return of_images, of_captions


@given(st.lists(st.integers(1, 4), min_size=1, max_size=9), st.integers(0, 2**16), st.sampled_from([1, 2, 3, 500]))
def test_ranks_equal_a_plain_loop_for_any_captions_per_image_order_and_tile(counts, seed, tile):
    generator = torch.Generator().manual_seed(seed)
    index = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    index = index[torch.randperm(len(index), generator=generator)]
    # small integers: dot products are exact and ties are many
    images = torch.randint(-2, 3, (len(counts), 3), generator=generator).double()
    captions = torch.randint(-2, 3, (len(index), 3), generator=generator).double()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(counts_module, "TILE", (tile, 2 * tile))
        ranks = image_caption_ranks(Products(images, captions), index)
    of_images, of_captions = plain_ranks(images, captions, index.tolist())
    assert ranks.images.tolist() == of_images
    assert ranks.captions.tolist() == of_captions


@pytest.mark.parametrize("index", [[0, 1, 1], [0, 1, 3]])
def test_captions_must_name_every_image(index):
    with pytest.raises(VSEError):
        image_caption_recalls(torch.eye(3), torch.eye(3), torch.tensor(index))


def test_tied_similarities_in_float64_are_left_as_they_were():
    """As of a collapsed model: ties are counted again in float64, in which the file may already be."""
    values = torch.ones(4, 8, dtype=torch.float64)
    index = torch.arange(4).repeat_interleave(2)
    for _ in range(2):
        assert image_caption_ranks(Matrix(values), index).captions.tolist() == [3] * 8
    assert torch.equal(values, torch.ones_like(values))
