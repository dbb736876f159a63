"""Protocols by name: folds, and what is no test set of theirs."""

import numpy as np
import pytest
import torch

from tests.golden import RECALLS, load
from vse_gpo.errors import VSEError
from vse_gpo.retrieval.protocols import Gallery, five_folds, run_protocols, whole_gallery
from vse_gpo.retrieval.similarity import matrix_similarities


def test_five_folds_equal_the_released_program():
    golden = load("recall")
    test = Gallery(
        similarities=matrix_similarities(golden["sims"]),
        caption_to_image=np.arange(100).repeat(5),
    )
    metrics = five_folds(test).metrics()
    assert [metrics[name] for name in RECALLS] == pytest.approx(golden["fold5_mean"].tolist(), abs=1e-12)


def gallery(images: int) -> Gallery:
    return Gallery(similarities=matrix_similarities(torch.eye(images)), caption_to_image=np.arange(images))


@pytest.mark.parametrize(
    ("protocols", "message"),
    [
        ([], "no protocol to test by, expected some of all, "),
        (["coco"], "unknown protocol coco, expected some of all, "),
        (["all", "f30k_1k"], "protocol f30k_1k is defined on 1000 images, found 3; use protocol all"),
    ],
)
def test_a_test_that_cannot_be_done_is_refused(protocols, message):
    with pytest.raises(VSEError, match=message):
        run_protocols(gallery(3), protocols)


def test_a_gallery_that_makes_no_five_folds_is_ranked_whole():
    outcomes = run_protocols(gallery(7), ["all", "mine"], {"mine": whole_gallery})
    assert outcomes["all"].metrics() == outcomes["mine"].metrics()
    assert outcomes["all"].metrics()["rsum"] == 600.0
