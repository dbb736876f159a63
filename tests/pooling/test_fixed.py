"""Poolings without anything to learn, against a plain loop."""

import pytest
import torch

from tests.pooling.test_family import FAMILY
from vse_gpo.errors import VSEError
from vse_gpo.pooling import (
    KMax,
    Mean,
)

plain = {
    "mean": lambda items: items.mean(0),
    "max": lambda items: items.max(0).values,
    "kmax": lambda items: items.sort(0, descending=True).values[:3].mean(0),
    "first": lambda items: items[0],
    "last": lambda items: items[-1],
}


@pytest.mark.parametrize("name", plain)
def test_fixed_poolings_equal_a_plain_loop(name):
    features, lengths = torch.randn(4, 7, 5), torch.tensor([7, 1, 2, 5])
    expected = torch.stack([plain[name](items[:length]) for items, length in zip(features, lengths, strict=True)])
    torch.testing.assert_close(FAMILY[name]()(features, lengths), expected)


def test_k_below_one_is_refused():
    with pytest.raises(VSEError, match="k=0, expected at least 1"):
        KMax(0)


def test_kmax_of_all_items_is_the_mean():
    features, lengths = torch.randn(3, 4, 5), torch.tensor([4, 1, 3])
    torch.testing.assert_close(KMax(None)(features, lengths), Mean()(features, lengths))
