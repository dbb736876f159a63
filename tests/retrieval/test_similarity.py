"""Similarities: bounds and float32 products never miss an exact one; ensembles are means."""

import numpy as np
import pytest
import torch

from tests.golden import RECALLS, load
from vse_gpo.retrieval.ranks import Ranks, image_caption_ranks
from vse_gpo.retrieval.recalls import recall_outcome
from vse_gpo.retrieval.similarity import Matrix, MeanSimilarity, Products, ensemble, matrix_similarities


def test_an_ensemble_equals_the_released_program():
    golden = load("ensemble")
    both = ensemble([matrix_similarities(golden["sims_a"]), matrix_similarities(golden["sims_b"])])
    index = np.arange(100).repeat(5)
    ranks = image_caption_ranks(both.image_caption, torch.from_numpy(index))
    # the golden numbers are those of the first 40 images and their captions, among all 100
    first = Ranks(ranks.images[:40], ranks.captions[:200])
    metrics = recall_outcome(first, index[:200]).metrics()
    expected = torch.cat([golden["i2t"], golden["t2i"]]).tolist()
    assert [metrics[name] for name in RECALLS] == pytest.approx(expected, abs=1e-12)


def test_float32_products_err_less_than_their_margin():
    generator = torch.Generator().manual_seed(0)
    embeddings = torch.nn.functional.normalize(torch.rand(400, 1024, generator=generator), dim=1)  # all alike
    products = Products(embeddings, embeddings)
    everything = (slice(0, 400), slice(0, 400))
    worst = (products.tile(*everything).double() - products.exact_tile(*everything)).abs().max()
    assert worst < products.margins[0]


def test_a_mean_in_float32_errs_less_than_its_margin():
    generator = torch.Generator().manual_seed(9)
    everything = (slice(0, 300), slice(0, 300))
    for members in (2, 9):
        alike = [1 - 1e-3 * torch.rand(300, 300, generator=generator, dtype=torch.float64) for _ in range(members)]
        mean = MeanSimilarity([Matrix(values) for values in alike])
        worst = (mean.tile(*everything).double() - mean.exact_tile(*everything)).abs().max()
        assert worst < mean.margins[0]
