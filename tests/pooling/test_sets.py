"""Lengths in every form that users have them."""

import numpy as np
import pytest
import torch

from tests.helpers.far_device import FAR, waits_noted
from tests.pooling.test_family import FAMILY, WIDTH, trained
from vse_gpo.errors import VSEError
from vse_gpo.pooling import GPO, Mean
from vse_gpo.pooling.sets import Pooling, apply_pooling, read_lengths

LENGTHS = [2, 4, 1]
MASK = [[True, True, False, False], [True, True, True, True], [True, False, False, False]]
FORMS = {
    "list": LENGTHS,
    "tuple": tuple(LENGTHS),
    "array": np.array(LENGTHS),
    "int32": torch.tensor(LENGTHS, dtype=torch.int32),
    "uint8": torch.tensor(LENGTHS, dtype=torch.uint8),
    "mask": torch.tensor(MASK),
    "mask array": np.array(MASK),
    "mask list": MASK,
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", FAMILY)
def test_every_pooling_takes_lengths_in_every_form(name, form):
    torch.manual_seed(0)
    pooling = trained(name).eval()
    assert isinstance(pooling, Pooling)
    features = torch.randn(3, 4, WIDTH)
    assert torch.equal(pooling(features, FORMS[form]), pooling(features, torch.tensor(LENGTHS)))


@pytest.mark.parametrize(
    ("lengths", "message"),
    [
        ([2.0, 4.0, 1.0], r"lengths of shape \(3,\) and torch.float32; expected integers \(sets,\), or a boolean mask"),
        (torch.ones(3), r"lengths of shape \(3,\) and torch.float32"),
        ([2, 4], "2 lengths for 3 sets"),
        (torch.tensor([2, 4, 1, 1]), "4 lengths for 3 sets"),
        (torch.tensor(3), r"lengths of shape \(\) and torch.int64"),
        (torch.ones(3, 4, dtype=torch.long), r"lengths of shape \(3, 4\) and torch.int64"),
        ([True, True, False], r"lengths of shape \(3,\) and torch.bool"),
        ([], r"lengths of shape \(0,\), there is nothing to pool"),
        (["two", "four", "one"], "lengths cannot be read as numbers"),
        ([[True], [True, False]], "lengths cannot be read as numbers"),
        ([0, 4, 1], "a set of length 0 cannot be pooled: every set needs at least 1 item"),
        ([-1, 4, 1], "a set of length -1 cannot be pooled"),
        ([2, 5, 1], "a set of length 5 cannot be pooled: there are 4 items"),
        (torch.tensor(MASK).flip(1), "valid items must come first in each set"),
        (torch.tensor(MASK)[:, :3], r"a mask of shape \(3, 3\) for sets and items \(3, 4\)"),
        (torch.tensor(MASK)[:2], r"a mask of shape \(2, 4\) for sets and items \(3, 4\)"),
        (torch.zeros(3, 4, dtype=torch.bool), "a set of length 0 cannot be pooled"),
    ],
)
@pytest.mark.parametrize("name", FAMILY)
def test_other_lengths_are_told(name, lengths, message):
    with pytest.raises(VSEError, match=message) as error:
        trained(name)(torch.randn(3, 4, WIDTH), lengths)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["gpo", "gpo_mlp"])
def test_coefficients_take_the_same_forms(name):
    torch.manual_seed(0)
    pooling = trained(name)
    expected = pooling.coefficients(torch.tensor(LENGTHS))
    for lengths in FORMS.values():
        assert torch.equal(pooling.coefficients(lengths), expected)
    for lengths, message in (([2.5], "torch.float32"), ([], "nothing to pool"), ([3, 0], "a set of length 0")):
        with pytest.raises(VSEError, match=message):
            pooling.coefficients(lengths)


def test_integers_on_the_features_device_are_handed_on_as_they_are():
    lengths = torch.tensor(LENGTHS)
    assert read_lengths(lengths, torch.zeros(3, 4, 1)) is lengths


def test_lengths_on_a_device_are_not_read_before_the_pooling_does():
    """Reading a value would wait for a GPU; a meta tensor has none to read."""
    lengths, features = torch.tensor(LENGTHS, device="meta"), torch.zeros(3, 4, 1, device="meta")
    assert read_lengths(lengths, features) is lengths
    assert read_lengths(lengths.int(), features).shape == (3,)


def test_poolings_keep_the_names_of_released_weights():
    assert [*GPO().state_dict()] == [
        *(
            f"gru.{part}_l0{way}"
            for way in ("", "_reverse")
            for part in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        ),
        "linear.weight",
    ]
    assert [*Mean().state_dict()] == []


def test_another_module_gets_lengths_on_the_device_of_the_features():
    class Own(torch.nn.Module):
        def forward(self, features: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
            return features.sum(1) / lengths[:, None]

    features, lengths = torch.ones(3, 4, 2), torch.tensor(LENGTHS)
    assert torch.equal(apply_pooling(Own(), features, lengths), Own()(features, lengths))
    with waits_noted() as waits:
        pooled = apply_pooling(Own(), torch.ones(3, 4, 2, device=FAR), lengths)
        assert waits == []
        assert torch.equal(pooled.cpu(), Own()(features, lengths))
