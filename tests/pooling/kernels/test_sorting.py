import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vse_gpo.pooling.kernels import sorting
from vse_gpo.pooling.kernels.sorting import sort_descending, weigh_by_rank

finite = st.floats(-1024, 1024, width=32, allow_subnormal=False)


@given(st.lists(st.one_of(finite, st.sampled_from([0.0, -0.0, float("inf"), 1.0])), min_size=1, max_size=9))
def test_the_packed_sort_equals_the_stable_sort_with_its_gradients(values):
    row = torch.tensor(values)
    features = row[None, :, None].clone().requires_grad_()
    expected = row.clone().requires_grad_()
    upstream = torch.arange(1.0, len(values) + 1)

    ordered = sort_descending(features, torch.tensor([len(values)]))[0, 0]
    ordered.backward(upstream)
    plain = expected.sort(descending=True, stable=True).values
    plain.backward(upstream)

    assert torch.equal(ordered, plain)
    assert torch.equal(features.grad[0, :, 0], expected.grad)


def test_nan_of_either_sign_sorts_first_as_torch_does():
    """On many processors the sign is set in what 0/0 gives."""
    values = [1.0, -torch.nan, float("inf"), torch.nan, 2.0]
    features = torch.tensor(values)[None, :, None].requires_grad_()
    ordered = sort_descending(features, torch.tensor([5]))[0, 0]
    assert ordered[:2].isnan().all()
    assert ordered[2:].tolist() == [float("inf"), 2.0, 1.0]
    ordered.backward(torch.arange(5.0))
    assert features.grad.flatten().tolist() == [4.0, 0.0, 2.0, 1.0, 3.0]


def plain(values: torch.Tensor, lengths: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Set by set, by torch's own stable sort."""
    return torch.stack(
        [
            row[:length].sort(dim=0, descending=True, stable=True).values.T @ weight[:length]
            for row, length, weight in zip(values, lengths.tolist(), weights, strict=True)
        ]
    )


@pytest.mark.parametrize("dim", [7, 256])
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("block", [1, 40, 2**15])
def test_weighing_equals_sorting_and_summing_with_all_gradients(block, threads, dim, monkeypatch):
    monkeypatch.setattr(sorting, "BLOCK", block)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    torch.manual_seed(0)
    values = torch.randn(6, 9, dim).round(decimals=1)  # with ties
    values[0, :, 0] = 0.0
    weights = torch.rand(6, 9)
    lengths = torch.tensor([9, 1, 2, 5, 9, 8])
    for row, length in enumerate(lengths.tolist()):
        weights[row, length:] = 0.0
    upstream = torch.randn(6, dim)
    results = []
    for pool in (weigh_by_rank, plain, lambda v, n, w: (sort_descending(v, n) @ w[:, :, None]).squeeze(-1)):
        inputs = values.clone().requires_grad_(), weights.clone().requires_grad_()
        pooled = pool(inputs[0], lengths, inputs[1])
        results.append((pooled, *torch.autograd.grad(pooled, inputs, upstream)))
    ours, expected, in_two_steps = results
    for part, other, third in zip(ours, expected, in_two_steps, strict=True):
        torch.testing.assert_close(part, other)
        torch.testing.assert_close(third, other)
    with torch.no_grad():
        torch.testing.assert_close(weigh_by_rank(values, lengths, weights), ours[0])


def test_values_of_any_memory_layout_are_weighed_alike():
    values = torch.randn(3, 4, 5).transpose(1, 2)
    lengths, weights = torch.tensor([5, 2, 3]), torch.rand(3, 5)
    torch.testing.assert_close(weigh_by_rank(values, lengths, weights), plain(values, lengths, weights))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rows_that_are_padding_in_every_set_get_no_gradient(dtype):
    values = torch.randn(3, 7, 5, dtype=dtype).requires_grad_()
    lengths, weights = torch.tensor([4, 2, 3]), torch.rand(3, 4, dtype=dtype)
    pooled = weigh_by_rank(values, lengths, weights)
    torch.testing.assert_close(pooled, plain(values, lengths, weights))
    (found,) = torch.autograd.grad(pooled.sum(), values)
    (expected,) = torch.autograd.grad(plain(values, lengths, weights).sum(), values)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_weights_of_more_ranks_than_items_count_for_the_items_they_have(dtype):
    values, lengths = torch.randn(3, 4, 5, dtype=dtype), torch.tensor([4, 2, 3])
    weights = torch.rand(3, 6, dtype=dtype).requires_grad_()
    pooled, expected = weigh_by_rank(values, lengths, weights), plain(values, lengths, weights)
    torch.testing.assert_close(pooled, expected)
    (found,), (gradient,) = (torch.autograd.grad(result.sum(), weights) for result in (pooled, expected))
    torch.testing.assert_close(found, gradient)


def test_nan_spoils_its_own_channel_alone():
    values = torch.randn(1, 3, 2)
    values[0, 1, 0] = -torch.nan  # with its sign set, as 0/0 gives on many processors
    for requires_grad in (False, True):
        pooled = weigh_by_rank(values.clone().requires_grad_(requires_grad), torch.tensor([3]), torch.full((1, 3), 0.3))
        assert pooled[0].isnan().tolist() == [True, False]
