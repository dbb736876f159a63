import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vse_gpo.errors import VSEError
from vse_gpo.pooling import FSPool, GeM, Max, Mean

LARGEST = torch.finfo(torch.float32).max


def set_p(pooling: GeM, p: float) -> GeM:
    pooling.log_p.data.fill_(np.log(p))
    return pooling


@pytest.mark.parametrize("p", [0.5, 1.0, 3.0, 20.0])
def test_gem_is_the_generalised_mean_of_the_clamped_values(p):
    torch.manual_seed(0)
    features, lengths = torch.randn(3, 6, 4), torch.tensor([6, 1, 4])
    found = GeM(p, floor=1e-3)(features, lengths)
    for values, length, pooled in zip(features.double(), lengths.tolist(), found, strict=True):
        expected = values[:length].clamp(min=1e-3).pow(p).mean(0).pow(1 / p)
        torch.testing.assert_close(pooled, expected.float(), rtol=1e-5, atol=1e-7)


def test_gem_lies_between_the_mean_and_the_maximum_and_reaches_both():
    torch.manual_seed(0)
    features, lengths = torch.randn(3, 9, 4), torch.tensor([9, 2, 5])
    clamped = features.clamp(min=1e-6)
    mean, largest = Mean()(clamped, lengths), Max()(clamped, lengths)
    torch.testing.assert_close(GeM(1.0)(features, lengths), mean)
    torch.testing.assert_close(set_p(GeM(), 1e6)(features, lengths), largest, rtol=1e-5, atol=0)
    pooled = [GeM(p)(features, lengths) for p in (1.0, 2.0, 4.0, 8.0)]
    for smaller, larger in zip([mean, *pooled], [*pooled, largest], strict=True):
        assert (smaller <= larger * (1 + 1e-6)).all()


@settings(max_examples=50)
@given(
    st.lists(st.floats(-LARGEST, LARGEST, width=32, allow_subnormal=False), min_size=1, max_size=8),
    st.sampled_from([0.1, 1.0, 3.0, 100.0]),
)
def test_gem_stays_finite_for_values_of_any_size_and_sign(values, p):
    pooling = GeM(p)
    features = torch.tensor(values)[None, :, None].requires_grad_()
    pooled = pooling(features, torch.tensor([len(values)]))
    (pooled / pooled.detach()).sum().backward()  # as the unit norm that follows hands gradients back
    assert pooled.isfinite().all()
    assert pooled.item() <= max(*values, 1e-6) * (1 + 1e-5)
    assert features.grad.isfinite().all()
    assert pooling.log_p.grad.isfinite()


@pytest.mark.parametrize(("p", "floor"), [(0.0, 1e-6), (3.0, 0.0)])
def test_gem_needs_positive_settings(p, floor):
    with pytest.raises(VSEError, match="expected both above 0"):
        GeM(p, floor)


def test_fspool_equals_a_plain_loop():
    torch.manual_seed(0)
    pooling = FSPool(width=3, pieces=4)
    features, lengths = torch.randn(4, 7, 3), torch.tensor([7, 1, 2, 5])
    knots = pooling.knots.detach().numpy()
    for values, length, pooled in zip(features.numpy(), lengths.tolist(), pooling(features, lengths), strict=True):
        for channel in range(3):
            ordered = np.sort(values[:length, channel])[::-1]
            weights = np.interp(np.linspace(0, 1, length), np.linspace(0, 1, 5), knots[channel])
            assert pooled[channel].item() == pytest.approx((ordered * weights).sum(), rel=1e-5, abs=1e-6)


def test_fspool_with_equal_weights_is_the_sum_and_with_the_first_knot_alone_the_maximum():
    pooling = FSPool(width=2, pieces=20)
    features, lengths = torch.randn(2, 9, 2), torch.tensor([9, 4])
    pooling.knots.data.fill_(1.0)
    torch.testing.assert_close(pooling(features, lengths), Mean()(features, lengths) * lengths[:, None])
    pooling.knots.data.zero_()[:, 0] = 1.0  # with 20 pieces and at most 20 items no other rank touches it
    torch.testing.assert_close(pooling(features, lengths), Max()(features, lengths))


def test_fspool_without_pieces_is_refused():
    with pytest.raises(VSEError, match="0 pieces, expected at least 1"):
        FSPool(3, pieces=0)
