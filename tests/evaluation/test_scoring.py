"""Embeddings → metrics by every protocol, in Python; ensembles and published rows."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
import vse_gpo.retrieval.counts as counts_module
from tests.golden import load
from vse_gpo.errors import VSEError
from vse_gpo.retrieval import evaluate, image_caption_recalls
from vse_gpo.retrieval.protocols import Gallery, five_folds
from vse_gpo.retrieval.ranks import Ranks, image_caption_ranks
from vse_gpo.retrieval.recalls import recall_outcome
from vse_gpo.retrieval.similarity import Matrix, Mean, Products, ensemble, matrix_similarities


def test_protocols_refuse_another_size_and_unknown_names():
    arguments = (torch.eye(3), torch.eye(3))
    assert evaluate(*arguments, caption_to_image=torch.arange(3), protocols=["all"])["all"]["rsum"] == 600.0
    with pytest.raises(VSEError, match="coco_1k_5fold is defined on 5000 images, found 3"):
        evaluate(*arguments, caption_to_image=torch.arange(3), protocols=["all", "coco_1k_5fold"])
    with pytest.raises(VSEError, match="unknown protocol coco"):
        evaluate(*arguments, caption_to_image=torch.arange(3), protocols=["coco"])
