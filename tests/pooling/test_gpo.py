from copy import deepcopy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from tests.golden import assert_close, load, under
from vse_gpo.errors import VSEError
from vse_gpo.pooling import GPO, GPOFromMax, Max, ResidualGPO, gpo
from vse_gpo.pooling.kernels.recurrence import run_both_ways


@pytest.mark.parametrize("name", ["gpo_regions", "gpo_words", "gpo_grid"])
def test_forward_and_backward_equal_the_released_program(name):
    golden = load(name)
    pooling = GPO()
    pooling.load_state_dict(under(golden, "w/"))
    features = golden["features"].requires_grad_()

    pooled = pooling(features, golden["lengths"])
    pooled.backward(golden["grad_pooled"])

    assert_close(pooled, golden["pooled"])
    assert_close(pooling.coefficients(golden["lengths"]), golden["coefficients"])
    assert_close(features.grad, golden["grad_features"])
    exact = parameter_gradients(golden, torch.float64)
    for name, expected in under(golden, "g/").items():
        # the released float32 sums over a hundred GRU steps are up to 1.5e-5 off the exact gradient themselves
        rounding = (exact[name] - expected).abs().max().item()
        allowed = 1e-5 * expected.abs().max().item()
        assert (pooling.get_parameter(name).grad - expected).abs().max().item() <= allowed + rounding
        assert (pooling.get_parameter(name).grad - exact[name]).abs().max().item() <= allowed


def parameter_gradients(golden: dict[str, torch.Tensor], dtype: torch.dtype) -> dict[str, torch.Tensor]:
    pooling = GPO()
    pooling.load_state_dict(under(golden, "w/"))
    pooling.to(dtype)(golden["features"].detach().to(dtype), golden["lengths"]).backward(
        golden["grad_pooled"].to(dtype)
    )
    return {name: parameter.grad for name, parameter in pooling.named_parameters()}


def test_coefficients_equal_the_released_program_from_1_to_256_items():
    golden = load("gpo_coefficients")
    pooling = GPO()
    pooling.load_state_dict(under(golden, "w/"))
    assert_close(pooling.coefficients(golden["lengths"]), golden["coefficients"])


@pytest.fixture
def generated(monkeypatch) -> list[list[int]]:
    """Sizes that coefficients are generated for, one list each time."""
    asked = []

    def watched(gru, positions, sizes):
        asked.append(sizes.tolist())
        return run_both_ways(gru, positions, sizes)

    monkeypatch.setattr(gpo, "run_both_ways", watched)
    return asked


def test_coefficients_are_generated_once_per_distinct_length(generated):
    GPO().coefficients(torch.tensor([3, 7, 3, 3, 7, 1]))
    assert generated == [[1, 3, 7]]


def test_without_gradient_coefficients_are_generated_once_per_length(generated):
    pooling = GPO(8, 4)
    expected = pooling.coefficients(torch.tensor([7, 3, 5])).detach()
    generated.clear()
    with torch.no_grad():
        for rows in ([1, 2], [2, 1], [0, 1, 2]):
            torch.testing.assert_close(
                pooling.coefficients(torch.tensor([7, 3, 5])[rows]), expected[rows, : max(5, 7 * (0 in rows))]
            )
    with torch.inference_mode():
        pooling(torch.randn(2, 7, 3), torch.tensor([3, 7]))
    assert generated == [[3, 5], [7]]


def change_in_place(pooling: GPO) -> None:
    with torch.no_grad():
        pooling.gru.bias_hh_l0_reverse.mul_(2)


def change_unnoticed(pooling: GPO) -> None:
    pooling.linear.weight.data.copy_(2 * pooling.linear.weight.data)  # no counter of torch sees it


def change_by_loading(pooling: GPO) -> None:
    pooling.load_state_dict(GPO(8, 4).state_dict())


def change_by_training(pooling: GPO) -> None:
    optimizer = torch.optim.SGD(pooling.parameters(), lr=1.0)
    with torch.enable_grad():
        pooling(torch.randn(2, 5, 3), torch.tensor([5, 3])).sum().backward()
    optimizer.step()


def change_precision(pooling: GPO) -> None:
    pooling.double()


@pytest.mark.parametrize(
    "change", [change_in_place, change_unnoticed, change_by_loading, change_by_training, change_precision]
)
@pytest.mark.parametrize("without_gradient", [torch.no_grad, torch.inference_mode])
def test_kept_coefficients_are_never_those_of_other_weights(change, without_gradient):
    pooling, lengths = GPO(8, 4), torch.tensor([5, 3])
    with without_gradient():
        before = pooling.coefficients(lengths)
    change(pooling)
    with without_gradient():
        after = pooling.coefficients(lengths)
    torch.testing.assert_close(after, pooling.coefficients(lengths).detach())
    assert change is change_precision or not torch.equal(after, before)


def test_a_copy_keeps_coefficients_of_its_own():
    pooling, lengths = GPO(8, 4), torch.tensor([5, 3])
    with torch.inference_mode():
        before = pooling.coefficients(lengths)
    other = deepcopy(pooling)
    change_in_place(other)
    with torch.inference_mode():
        assert not torch.equal(other.coefficients(lengths), before)
        assert torch.equal(pooling.coefficients(lengths), before)


@given(st.lists(st.integers(1, 12), min_size=1, max_size=5), st.integers(0, 2**16))
def test_coefficients_sum_to_one_and_end_at_the_length(lengths, seed):
    torch.manual_seed(seed)
    coefficients = GPO(8, 4).coefficients(torch.tensor(lengths))
    assert coefficients.shape == (len(lengths), max(lengths))
    torch.testing.assert_close(coefficients.sum(1), torch.ones(len(lengths)))
    for row, length in zip(coefficients, lengths, strict=True):
        assert (row[length:] == 0).all()


def test_an_empty_set_is_refused():
    with pytest.raises(VSEError, match="a set of length 0 cannot be pooled"):
        GPO().coefficients(torch.tensor([3, 0]))


def plain_pool(pooling: GPO, features: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """Set by set, channel by channel."""
    rows = []
    for values, length in zip(features, lengths.tolist(), strict=True):
        weights = pooling.coefficients(torch.tensor([length]))[0]
        rows.append(torch.stack([channel[:length].sort(descending=True).values @ weights for channel in values.T]))
    return torch.stack(rows)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_pooling_equals_a_plain_loop(dtype):
    torch.manual_seed(0)
    pooling = GPO().to(dtype)
    features = torch.randn(4, 9, 5, dtype=dtype, requires_grad=True)
    lengths = torch.tensor([9, 4, 1, 6])
    (gradient,) = torch.autograd.grad(pooling(features, lengths).square().sum(), features)
    (expected,) = torch.autograd.grad(plain_pool(pooling, features, lengths).square().sum(), features)
    torch.testing.assert_close(pooling(features, lengths), plain_pool(pooling, features, lengths))
    torch.testing.assert_close(gradient, expected)


def test_padding_may_hold_anything():
    pooling = GPO()
    features = torch.randn(2, 5, 3)
    lengths = torch.tensor([2, 3])
    spoiled = features.clone()
    spoiled[0, 2:] = float("nan")
    spoiled[1, 3:] = float("inf")
    torch.testing.assert_close(pooling(spoiled, lengths), pooling(features, lengths))


def test_parameter_names_are_the_released_ones():
    names = {name for name, _ in GPO().named_parameters()}
    assert names == set(under(load("gpo_regions"), "w/"))
    assert isinstance(GPO(d_position=8, d_hidden=4).gru, nn.GRU)


@pytest.mark.parametrize("base", [None, Max()])
def test_residual_gpo_starts_as_its_base_and_then_adds_a_gated_gpo(base):
    torch.manual_seed(0)
    pooling = ResidualGPO(base)
    features, lengths = torch.randn(3, 5, 8), torch.tensor([5, 1, 3])
    start = features[:, 0] if base is None else base(features, lengths)
    assert torch.equal(pooling(features, lengths), start)
    pooling.gate.data.fill_(0.3)
    torch.testing.assert_close(pooling(features, lengths), start + 0.3 * pooling.gpo(features, lengths))


def test_gpo_from_max_starts_as_the_maximum_and_then_is_the_residual_gpo_on_it():
    torch.manual_seed(0)
    pooling, residual = GPOFromMax().double(), ResidualGPO(Max()).double()
    residual.gpo.load_state_dict({name: value for name, value in pooling.state_dict().items() if name != "gate"})
    features = torch.randn(4, 6, 8, dtype=torch.float64, requires_grad=True)
    lengths = torch.tensor([6, 1, 3, 6])
    assert torch.equal(pooling(features, lengths), Max()(features, lengths))
    for module in (pooling, residual):
        module.gate.data.fill_(-0.3)
    expected = residual(features, lengths)
    torch.testing.assert_close(pooling(features, lengths), expected)
    torch.testing.assert_close(pooling.coefficients(lengths).sum(1), torch.full((4,), 0.7, dtype=torch.float64))
    weights = torch.randn(4, 8, dtype=torch.float64)
    (wanted,) = torch.autograd.grad((expected * weights).sum(), features)
    (pooling(features, lengths) * weights).sum().backward()
    torch.testing.assert_close(features.grad, wanted)
    assert pooling.gate.grad != 0
