"""Recalls and ranks against the released program; arrays, tensors and bad input."""

import doctest

import numpy as np
import pytest
import torch

from tests.golden import RECALLS, load
from vse_gpo.errors import VSEError
from vse_gpo.evaluation.scoring import evaluate
from vse_gpo.retrieval import image_caption_recalls, matrix_recalls
from vse_gpo.retrieval.ranks import image_caption_ranks
from vse_gpo.retrieval.recalls import recall_outcome
from vse_gpo.retrieval.similarity import Matrix, Products, matrix_similarities


def test_recalls_and_ranks_equal_the_released_program():
    golden = load("recall")
    index = torch.arange(100).repeat_interleave(5)
    ranks = image_caption_ranks(Matrix(golden["sims"]), index)
    metrics = recall_outcome(ranks, index.numpy()).metrics()
    expected = torch.cat([golden["i2t"], golden["t2i"]]).tolist()
    assert [metrics[name] for name in RECALLS] == pytest.approx(expected, abs=1e-12)
    assert ranks.images.tolist() == golden["i2t_ranks"].tolist()
    assert ranks.captions.tolist() == golden["t2i_ranks"].tolist()


def test_a_collapsed_model_scores_nothing():
    same = torch.nn.functional.normalize(torch.ones(600, 64), dim=1)
    metrics = image_caption_recalls(same, same.repeat(2, 1), torch.arange(600).repeat(2))
    assert metrics["rsum"] == 0.0
    assert metrics["t2i_medr"] == 600


def test_arrays_and_tensors_give_the_same():
    generator = np.random.default_rng(0)
    images, captions = generator.standard_normal((7, 4)), generator.standard_normal((14, 4))
    index = np.repeat(np.arange(7), 2)
    assert image_caption_recalls(images, captions, index) == image_caption_recalls(
        torch.from_numpy(images), torch.from_numpy(captions), torch.from_numpy(index)
    )


@pytest.mark.parametrize("which", [0, 1])
def test_nan_is_an_error(which):
    embeddings = [torch.eye(3), torch.eye(3)]
    embeddings[which][1, 0] = float("nan")
    with pytest.raises(VSEError, match="embedding 1 holds NaN"):
        image_caption_recalls(*embeddings, torch.arange(3))


def test_embeddings_out_of_a_training_step_need_no_detaching():
    embeddings = torch.eye(5, requires_grad=True) * 2
    recalls = image_caption_recalls(embeddings, embeddings, torch.arange(5))
    assert recalls["rsum"] == 600.0
    assert matrix_similarities(embeddings).image_caption.tile(slice(0, 5), slice(0, 5)).requires_grad is False


@pytest.mark.parametrize("scale", [1e-30, 1e-4, 7.0, 1e38])
def test_recalls_do_not_depend_on_the_scale_of_the_embeddings(scale):
    for kind in (np.float32, np.float64):
        metrics = image_caption_recalls(scale * np.eye(12, dtype=kind), np.eye(12, dtype=kind), np.arange(12))
        assert metrics["rsum"] == 600.0
        assert metrics["t2i_meanr"] == 1.0


def test_unit_embeddings_give_what_their_products_give():
    generator = torch.Generator().manual_seed(0)
    index = torch.arange(50).repeat_interleave(5)
    images = torch.nn.functional.normalize(torch.randn(50, 16, generator=generator), dim=1)
    captions = torch.nn.functional.normalize(images[index] + 0.7 * torch.randn(250, 16, generator=generator), dim=1)
    expected = recall_outcome(image_caption_ranks(Products(images, captions), index), index.numpy()).metrics()
    assert 100 < expected["rsum"] < 600
    assert image_caption_recalls(images, captions, index) == expected
    assert evaluate(images, captions, caption_to_image=index, protocols="all")["all"] == expected
    assert image_caption_recalls(images.tolist(), captions.tolist(), index.tolist()) == expected
    assert matrix_recalls(images.double() @ captions.double().T, index.tolist()) == expected


def test_ties_in_a_matrix_count_against_the_query():
    metrics = matrix_recalls(np.ones((20, 40)), np.repeat(np.arange(20), 2))
    assert metrics["rsum"] == 0.0
    assert (metrics["i2t_medr"], metrics["t2i_medr"]) == (39.0, 20.0)


@pytest.mark.parametrize(
    ("similarity", "index", "message"),
    [
        ([[0.9, np.nan], [0.1, 0.8]], [0, 1], "similarities of image 0 holds NaN or infinity"),
        ([[0.9, 0.2], [0.1, 0.8]], [0.0, 1.0], "caption_to_image has shape .* of float64"),
        ([[0.9, 0.2], [0.1, 0.8]], [0], r"caption_to_image has shape \(1,\) of int64 for 2 captions"),
        ([[0.9, 0.2], [0.1, 0.8]], [0, 2], "captions name 1 images of 2"),
        ([0.9, 0.2], [0, 1], r"similarities of shape \(2,\), expected \(images, captions\)"),
        (np.ones((0, 2)), [0, 1], r"similarities of shape \(0, 2\)"),
        ([[1, 0], [0, 1]], [0, 1], "similarities of int64, expected floats"),
    ],
)
def test_a_matrix_that_does_not_fit_is_refused(similarity, index, message):
    with pytest.raises(VSEError, match=message):
        matrix_recalls(similarity, index)


def test_the_examples_of_the_docstrings_hold():
    for function in (image_caption_recalls, matrix_recalls, evaluate):
        names = {name: globals()[name] for name in ("image_caption_recalls", "matrix_recalls", "evaluate")}
        [test] = doctest.DocTestFinder(recurse=False).find(function, globs=names)
        assert test.examples
        assert doctest.DocTestRunner().run(test).failed == 0
