"""The loss of one similarity or of both."""

import pytest
import torch

from tests.helpers.tiny import tiny_module
from vse_gpo.errors import VSEError
from vse_gpo.interaction import MaxSim
from vse_gpo.losses import TripletLoss
from vse_gpo.pooling import Mean
from vse_gpo.training.objective import Objective

BOTH = {"embedding": 1.0, "interaction": 1.0}


def test_losses_of_both_kinds_are_weighted_and_added():
    loss, (one, other) = TripletLoss(), torch.randn(2, 4, 4, generator=torch.Generator().manual_seed(0))
    objective = Objective(loss, {"embedding": 0.5, "interaction": 2.0})
    mask = torch.ones(4, 4).triu().bool()
    for hardest in (True, False):
        expected = 0.5 * loss(one, hardest, mask) + 2 * loss(other, hardest, mask)
        torch.testing.assert_close(objective({"embedding": one, "interaction": other}, hardest, mask), expected)


def test_a_kind_without_weight_is_not_computed():
    assert Objective(TripletLoss(), {"embedding": 1.0, "interaction": 0.0}).kinds == ["embedding"]
    assert Objective(TripletLoss(), {"embedding": 0.0, "interaction": 2.0}).kinds == ["interaction"]


@pytest.mark.parametrize(
    ("interaction", "weights", "message"),
    [
        (None, BOTH, r"similarity_weights.interaction=1, but the model has only embedding; set interaction=maxsim"),
        (MaxSim(), BOTH | {"words": 0.5}, r"similarity_weights.words=0.5, but the model has only embedding and inter"),
        (MaxSim(), {"embedding": 1.0, "interaction": -1.0}, "expected 0 or more for each, and one above 0"),
        (MaxSim(), {"embedding": 0.0, "interaction": 0.0}, "expected 0 or more for each, and one above 0"),
        (MaxSim(), {"interaction": 1.0}, "image_pooling: its weights would not be trained.* set loss=joint, or pooli"),
    ],
)
def test_weights_that_fit_no_training_are_refused(interaction, weights, message):
    with pytest.raises(VSEError, match=message):
        tiny_module(interaction=interaction, similarity_weights=weights)


def test_without_weights_the_embedding_is_trained():
    assert tiny_module(similarity_weights=None).objective.kinds == ["embedding"]


def test_a_pooling_without_weights_needs_no_loss_of_its_own():
    model = tiny_module(interaction=MaxSim()).model
    model.image_encoder.pooling = model.text_encoder.pooling = Mean()
    Objective(TripletLoss(), {"interaction": 1.0}).check(model)
