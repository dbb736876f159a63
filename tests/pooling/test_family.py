"""The contract that every pooling keeps."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vse_gpo.pooling import GPO, First, KMax, Max, Mean

FAMILY = {"gpo": GPO, "mean": Mean, "max": Max, "kmax": lambda: KMax(3), "first": First}

plain = {
    "mean": lambda items: items.mean(0),
    "max": lambda items: items.max(0).values,
    "kmax": lambda items: items.sort(0, descending=True).values[:3].mean(0),
    "first": lambda items: items[0],
}


@pytest.mark.parametrize("name", FAMILY)
@given(lengths=st.lists(st.integers(1, 6), min_size=1, max_size=4), seed=st.integers(0, 2**16))
def test_padding_takes_no_part(name, lengths, seed):
    torch.manual_seed(seed)
    pooling = FAMILY[name]().eval()
    lengths = torch.tensor(lengths)
    features = torch.randn(len(lengths), 8, 4)
    pooled = pooling(features, lengths)
    assert pooled.shape == (len(lengths), 4)
    for row, length in enumerate(lengths.tolist()):
        alone = pooling(features[row : row + 1, :length], lengths[row : row + 1])
        torch.testing.assert_close(pooled[row], alone[0])
        features[row, length:] = float("nan")
    torch.testing.assert_close(pooling(features, lengths), pooled)


@pytest.mark.parametrize("name", FAMILY)
def test_padding_gets_no_gradient_and_every_parameter_gets_one(name):
    pooling = FAMILY[name]()
    features = torch.randn(3, 6, 4, requires_grad=True)
    pooling(features, torch.tensor([2, 6, 4])).square().sum().backward()
    assert (features.grad[0, 2:] == 0).all()
    assert features.grad[0, 0].abs().sum() > 0
    assert all(parameter.grad is not None for parameter in pooling.parameters())


@pytest.mark.parametrize("name", plain)
def test_fixed_poolings_equal_a_plain_loop(name):
    features, lengths = torch.randn(4, 7, 5), torch.tensor([7, 1, 2, 5])
    expected = torch.stack([plain[name](items[:length]) for items, length in zip(features, lengths, strict=True)])
    torch.testing.assert_close(FAMILY[name]()(features, lengths), expected)


def test_k_below_one_is_refused():
    with pytest.raises(ValueError, match="k must be at least 1"):
        KMax(0)
