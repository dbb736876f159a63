"""The contract that every pooling keeps."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.helpers.far_device import FAR, waits_noted
from vse_gpo.errors import VSEError
from vse_gpo.pooling import (
    GCN,
    GPO,
    First,
    FSPool,
    GeM,
    GPOFromMax,
    KMax,
    Last,
    Max,
    Mean,
    RankPooling,
    ResidualGPO,
    SelfAttention,
    Seq2Seq,
    SizePooling,
)
from vse_gpo.pooling.gpo_variants import (
    MLP,
    FeatureGenerator,
    InterpolatedVector,
    LearnedIndex,
    RankGRU,
    SinCos,
    SizeGenerator,
    Transformer,
)

WIDTH = 4
FAMILY = {
    "mean": Mean,
    "max": Max,
    "kmax": lambda: KMax(3),
    "first": First,
    "last": Last,
    "gem": GeM,
    "fspool": lambda: FSPool(WIDTH),
    "self_attention": lambda: SelfAttention(WIDTH, d_hidden=5),
    "seq2seq": lambda: Seq2Seq(WIDTH, bidirectional=False),
    "seq2seq_both_ways": lambda: Seq2Seq(WIDTH),
    "gcn_mean": lambda: GCN(WIDTH, pooling=Mean()),
    "gcn_seq2seq": lambda: GCN(WIDTH, pooling=Seq2Seq(WIDTH, bidirectional=False)),
    "gpo": GPO,
    "gpo_from_max": GPOFromMax,
    "residual_gpo": ResidualGPO,
    "gpo_transformer": lambda: SizePooling(SizeGenerator(positions=SinCos(), sequence=Transformer())),
    "gpo_mlp": lambda: SizePooling(SizeGenerator(positions=SinCos(), sequence=MLP())),
    "gpo_learned_index": lambda: SizePooling(SizeGenerator(positions=LearnedIndex(size=8), sequence=RankGRU())),
    "gpo_per_channel": lambda: RankPooling(SizeGenerator(positions=SinCos(), sequence=RankGRU(), channels=WIDTH)),
    "gpo_interpolated": lambda: SizePooling(InterpolatedVector(5)),
    "gpo_conditioned": lambda: RankPooling(FeatureGenerator(WIDTH)),
}
ORDER_COUNTS = {"first", "residual_gpo", "last", "seq2seq", "seq2seq_both_ways", "gcn_seq2seq"}


def trained(name: str) -> torch.nn.Module:
    """A pooling whose every weight is off its start, so that no part of it is silent."""
    pooling = FAMILY[name]()
    with torch.no_grad():
        for parameter in pooling.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return pooling


@pytest.mark.parametrize("name", FAMILY)
@settings(max_examples=25)
@given(lengths=st.lists(st.integers(1, 6), min_size=1, max_size=4), seed=st.integers(0, 2**16))
def test_padding_takes_no_part(name, lengths, seed):
    torch.manual_seed(seed)
    pooling = trained(name).eval()
    lengths = torch.tensor(lengths)
    features = torch.randn(len(lengths), 8, WIDTH)
    pooled = pooling(features, lengths)
    assert pooled.shape == (len(lengths), WIDTH)
    for row, length in enumerate(lengths.tolist()):
        alone = pooling(features[row : row + 1, :length], lengths[row : row + 1])
        torch.testing.assert_close(pooled[row], alone[0])
        features[row, length:] = float("nan")
    torch.testing.assert_close(pooling(features, lengths), pooled)


@pytest.mark.parametrize("name", FAMILY)
def test_padding_gets_no_gradient_and_every_parameter_gets_one(name):
    torch.manual_seed(0)
    pooling = trained(name)
    features = torch.randn(3, 6, WIDTH)
    features[0, 2:] = float("nan")
    features.requires_grad_()
    pooling(features, torch.tensor([2, 6, 4])).square().sum().backward()
    assert (features.grad[0, 2:] == 0).all()
    assert features.grad[0, :2].abs().sum() > 0
    assert all(parameter.grad is not None for parameter in pooling.parameters())
    assert all(parameter.grad.isfinite().all() for parameter in [features, *pooling.parameters()])


@pytest.mark.parametrize("name", FAMILY)
def test_gradients_equal_finite_differences(name):
    torch.manual_seed(1)
    pooling = trained(name).double()
    features = torch.randn(3, 5, WIDTH, dtype=torch.float64, requires_grad=True)
    lengths = torch.tensor([5, 1, 3])
    inputs = (features, *pooling.parameters())  # changed in place, so the pooling sees its own
    assert torch.autograd.gradcheck(lambda features, *_: pooling(features, lengths), inputs, fast_mode=True)


@pytest.mark.parametrize("scale", [1e-20, 1e-3, 1e3, 1e15])
@pytest.mark.parametrize("name", FAMILY)
def test_values_of_any_size_keep_results_and_gradients_finite(name, scale):
    torch.manual_seed(0)
    pooling = trained(name)
    features = (scale * torch.randn(3, 5, WIDTH)).requires_grad_()
    pooled = pooling(features, torch.tensor([5, 1, 3]))
    pooled.sum().backward()
    assert pooled.isfinite().all()
    assert all(tensor.grad.isfinite().all() for tensor in [features, *pooling.parameters()])


@pytest.mark.parametrize("name", sorted(FAMILY.keys() - ORDER_COUNTS))
def test_the_order_of_the_items_does_not_count(name):
    torch.manual_seed(0)
    pooling = trained(name).eval()
    features, lengths = torch.randn(2, 6, WIDTH), torch.tensor([6, 4])
    turned = features.clone()
    for row, length in enumerate(lengths.tolist()):
        turned[row, :length] = features[row, :length].flip(0)
    torch.testing.assert_close(pooling(turned, lengths), pooling(features, lengths))


@pytest.mark.parametrize("name", FAMILY)
@pytest.mark.parametrize(("lengths", "wrong"), [([3, 0], 0), ([0], 0), ([1, 4], 4)])
def test_an_empty_set_and_one_of_more_items_than_there_are_are_refused(name, lengths, wrong):
    with pytest.raises(VSEError, match=f"a set of length {wrong} cannot be pooled"):
        FAMILY[name]()(torch.randn(len(lengths), 3, WIDTH), torch.tensor(lengths))


@pytest.mark.parametrize("name", FAMILY)
def test_lengths_on_the_cpu_let_nothing_wait_for_the_device_of_the_features(name):
    torch.manual_seed(0)
    pooling = trained(name)
    features, lengths, arriving = torch.randn(4, 6, WIDTH), torch.tensor([2, 5, 1, 2]), torch.randn(4, WIDTH)
    here = features.clone().requires_grad_()
    pooled = pooling(here, lengths)
    pooled.backward(arriving)
    expected = [pooled, here.grad, *(parameter.grad for parameter in pooling.parameters())]
    pooling.zero_grad()
    with waits_noted() as waits:
        there = copy.deepcopy(pooling).to(FAR)
        far_features, far_arriving = features.to(FAR).requires_grad_(), arriving.to(FAR)
        waits.clear()
        pooled = there(far_features, lengths)
        pooled.backward(far_arriving)
        assert waits == []
        found = [pooled, far_features.grad, *(parameter.grad for parameter in there.parameters())]
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one.cpu(), other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", FAMILY)
def test_lengths_on_the_device_are_waited_for_once(name):
    torch.manual_seed(0)
    pooling = trained(name)
    features, lengths = torch.randn(4, 6, WIDTH), torch.tensor([2, 5, 1, 2])
    expected = pooling(features, lengths)
    with waits_noted() as waits:
        there = copy.deepcopy(pooling).to(FAR)
        far_features, far_lengths = features.to(FAR), lengths.to(FAR)
        waits.clear()
        pooled = there(far_features, far_lengths)
        assert len(waits) == 1
        torch.testing.assert_close(pooled.cpu(), expected, rtol=1e-4, atol=1e-5)
