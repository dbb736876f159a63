"""Recalls and ranks against the released program; arrays, tensors and bad input."""

import numpy as np
import pytest
import torch

from tests.golden import RECALLS, load
from vse_gpo.errors import VSEError
from vse_gpo.retrieval import image_caption_recalls
from vse_gpo.retrieval.ranks import image_caption_ranks
from vse_gpo.retrieval.recalls import recall_outcome
from vse_gpo.retrieval.similarity import Matrix, matrix_similarities


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
