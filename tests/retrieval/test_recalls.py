import doctest

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import vse_gpo.retrieval.counts as counts_module
from tests.golden import load
from vse_gpo.errors import VSEError
from vse_gpo.evaluation.scoring import evaluate
from vse_gpo.retrieval import image_caption_recalls, matrix_recalls
from vse_gpo.retrieval.protocols import Gallery, five_folds
from vse_gpo.retrieval.ranks import Ranks, image_caption_ranks
from vse_gpo.retrieval.recalls import recall_outcome
from vse_gpo.retrieval.similarity import Matrix, Mean, Products, ensemble, matrix_similarities

NAMES = [f"{direction}_{metric}" for direction in ("i2t", "t2i") for metric in ("r1", "r5", "r10", "medr", "meanr")]


def test_recalls_and_ranks_equal_the_released_program():
    golden = load("recall")
    index = torch.arange(100).repeat_interleave(5)
    ranks = image_caption_ranks(Matrix(golden["sims"]), index)
    metrics = recall_outcome(ranks, index.numpy()).metrics()
    expected = torch.cat([golden["i2t"], golden["t2i"]]).tolist()
    assert [metrics[name] for name in NAMES] == pytest.approx(expected, abs=1e-12)
    assert ranks.images.tolist() == golden["i2t_ranks"].tolist()
    assert ranks.captions.tolist() == golden["t2i_ranks"].tolist()


def test_five_folds_equal_the_released_program():
    golden = load("recall")
    test = Gallery(
        similarities=matrix_similarities(golden["sims"]),
        caption_to_image=np.arange(100).repeat(5),
    )
    metrics = five_folds(test).metrics()
    assert [metrics[name] for name in NAMES] == pytest.approx(golden["fold5_mean"].tolist(), abs=1e-12)


def test_an_ensemble_equals_the_released_program():
    golden = load("ensemble")
    both = ensemble([matrix_similarities(golden["sims_a"]), matrix_similarities(golden["sims_b"])])
    index = np.arange(100).repeat(5)
    ranks = image_caption_ranks(both.image_caption, torch.from_numpy(index))
    # the golden numbers are those of the first 40 images and their captions, among all 100
    first = Ranks(ranks.images[:40], ranks.captions[:200])
    metrics = recall_outcome(first, index[:200]).metrics()
    expected = torch.cat([golden["i2t"], golden["t2i"]]).tolist()
    assert [metrics[name] for name in NAMES] == pytest.approx(expected, abs=1e-12)


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


@pytest.mark.parametrize("index", [[0, 1, 1], [0, 1, 3]])
def test_captions_must_name_every_image(index):
    with pytest.raises(VSEError):
        image_caption_recalls(torch.eye(3), torch.eye(3), torch.tensor(index))


def test_embeddings_out_of_a_training_step_need_no_detaching():
    embeddings = torch.eye(5, requires_grad=True) * 2
    recalls = image_caption_recalls(embeddings, embeddings, torch.arange(5))
    assert recalls["rsum"] == 600.0
    assert matrix_similarities(embeddings).image_caption.tile(slice(0, 5), slice(0, 5)).requires_grad is False


def test_protocols_refuse_another_size_and_unknown_names():
    arguments = (torch.eye(3), torch.eye(3))
    assert evaluate(*arguments, caption_to_image=torch.arange(3), protocols=["all"])["all"]["rsum"] == 600.0
    with pytest.raises(VSEError, match="coco_1k_5fold is defined on 5000 images, found 3"):
        evaluate(*arguments, caption_to_image=torch.arange(3), protocols=["all", "coco_1k_5fold"])
    with pytest.raises(VSEError, match="unknown protocol coco"):
        evaluate(*arguments, caption_to_image=torch.arange(3), protocols=["coco"])


def test_bounds_lie_at_or_above_the_exact_similarities():
    generator = torch.Generator().manual_seed(0)
    latent = torch.randn(300, 20, generator=generator)
    embeddings = latent @ torch.randn(20, 600, generator=generator) + torch.randn(300, 600, generator=generator)
    embeddings = torch.nn.functional.normalize(embeddings, dim=1)
    products = Products(embeddings, embeddings)
    bounds = products.upper_bounds()
    everything = (slice(0, 300), slice(0, 300))
    exact = products.exact_tile(*everything)
    gap = bounds.tile(*everything).double() + bounds.margins[0] - exact
    assert gap.min() >= 0
    assert gap.median() < 0.1  # and not far above


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
        mean = Mean([Matrix(values) for values in alike])
        worst = (mean.tile(*everything).double() - mean.exact_tile(*everything)).abs().max()
        assert worst < mean.margins[0]


def test_tied_similarities_in_float64_are_left_as_they_were():
    """As of a collapsed model: ties are counted again in float64, in which the file may already be."""
    values = torch.ones(4, 8, dtype=torch.float64)
    index = torch.arange(4).repeat_interleave(2)
    for _ in range(2):
        assert image_caption_ranks(Matrix(values), index).captions.tolist() == [3] * 8
    assert torch.equal(values, torch.ones_like(values))


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
