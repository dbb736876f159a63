"""Bidirectional GRU over the ranks of sets of several sizes, which share their first ranks: it gives GPO weights."""

import functools
import math
from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from vse_gpo.gru import run_gru
from vse_gpo.pooling.kernels.numpy_recurrence import NumpySteps
from vse_gpo.pooling.kernels.trial import HAS_TRITON, kernels_run
from vse_gpo.precision import full_precision

WEIGHTS = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
WIDEST = 64  # numbers of a state: with twice as many, the weights do not fit into a GPU's registers


@runtime_checkable
class Steps(Protocol):
    """The steps of the recurrence on one kind of device; the axes are those of ``_SmallGRU``."""

    def advance(
        self,
        inputs: Float[Tensor, "steps 2 3 d_hidden"],
        biases: Float[Tensor, "2 3 d_hidden"],
        weights: Float[Tensor, "2 gates d_hidden"],
        sizes: Int[Tensor, " sizes"],
    ) -> tuple[Tensor, Tensor, Tensor]:
        """States (s + 1, l, h) from the zeros at the start on, gates (s, l, g, h), what reset gates scale (s, l, h)."""

    def retreat(
        self,
        arriving: Float[Tensor, "steps lanes d_hidden"],
        kept: tuple[Tensor, Tensor, Tensor],
        weights: Float[Tensor, "2 gates d_hidden"],
        sizes: Int[Tensor, " sizes"],
    ) -> tuple[Tensor, Tensor]:
        """Gradients (s, l, g, h) of the gates' inputs, and of the state's products with biases."""


def run_both_ways(
    gru: nn.GRU, positions: Float[Tensor, "items d_position"], sizes: Int[Tensor, " sizes"]
) -> Float[Tensor, "sizes items d_hidden"]:
    """Mean of the two directions' states at every position of each size; values past a size are undefined.

    On a CPU the result is float64, because a softmax of low temperature follows. On a GPU it is float32 and costs two
    Triton kernels, one each way, in place of cuDNN's several per step.

    Args:
        gru: one layer, bidirectional, batch first.
        positions: encoded positions; a set of n items uses the first n.
        sizes: set sizes, at least 1, on the CPU.
    """
    weights = [torch.stack([getattr(gru, name), getattr(gru, f"{name}_reverse")]) for name in WEIGHTS]
    if torch.compiler.is_exporting():
        return run_gru(gru, positions.expand(sizes.shape[0], -1, -1), sizes).mean(2)
    if positions.device.type == "cpu":
        order = sizes.argsort(descending=True)
        return small_gru(NumpySteps(), positions.double(), sizes[order], [one.double() for one in weights])[
            order.argsort()
        ]
    if positions.device.type == "cuda" and positions.dtype == torch.float32:
        fused = fused_steps(positions.device, gru.hidden_size)
        if fused is not None:
            return small_gru(fused, positions, sizes, weights)
    return run_gru(gru, positions.expand(sizes.shape[0], -1, -1), sizes).mean(2)


def small_gru(
    steps: Steps,
    positions: Float[Tensor, "items d_position"],
    sizes: Int[Tensor, " sizes"],
    weights: Sequence[Float[Tensor, "2 gates ..."]],
) -> Float[Tensor, "sizes items d_hidden"]:
    """Mean of the two directions' states; past a size, half of the forward state.

    Args:
        steps: ``NumpySteps`` on a CPU, for sizes in descending order; ``TritonSteps`` on a GPU, for float32.
        positions, sizes: see ``run_both_ways``.
        weights: of both ways, in the order of ``WEIGHTS``.
    """
    states = _SmallGRU.apply(steps, positions, sizes, *weights)
    return (states[:1] + states[1:]) / 2


@functools.cache
def fused_steps(device: torch.device, width: int) -> Steps | None:
    """The Triton kernels, if they run on this device for states of this width and give the expected numbers.

    Tried once on two small sets. If they do not run, a warning says why, and the caller runs torch's GRU.

    Args:
        device: where the kernels are to run.
        width: numbers of a state.
    """
    if not (HAS_TRITON and width <= WIDEST):
        return None
    from vse_gpo.pooling.kernels.triton_recurrence import TritonSteps  # noqa: PLC0415, takes a second

    def trial() -> bool:
        exact = _trial(NumpySteps(), torch.device("cpu"), torch.float64, width)
        found = _trial(TritonSteps(), device, torch.float32, width)
        return all(
            torch.allclose(one.cpu().double(), other, rtol=1e-4, atol=1e-4)
            for one, other in zip(found, exact, strict=True)
        )

    ran = kernels_run(trial, f"for GPO's coefficients on {device}", "torch's GRU generates them, slower")
    return TritonSteps() if ran else None


def _trial(steps: Steps, device: torch.device, dtype: torch.dtype, width: int) -> tuple[Tensor, ...]:
    """States and gradients of two small sets, with weights that look random."""
    shapes = [(2, 3 * width, 4), (2, 3 * width, width), (2, 3 * width), (2, 3 * width)]
    weights = [
        torch.arange(math.prod(shape), dtype=torch.float64).mul(12.9898).sin().div(width**0.5).view(shape)
        for shape in shapes
    ]
    weights = [weight.to(device, dtype).requires_grad_() for weight in weights]
    positions = torch.eye(5, 4, dtype=dtype, device=device)
    states = small_gru(steps, positions, torch.tensor([5, 2]), weights)
    return states, *torch.autograd.grad(states.sum(), weights)


class _SmallGRU(torch.autograd.Function):
    """The states of every lane, many times faster than by ``nn.GRU``, which starts thousands of small operations.

    All lanes advance together. The first lane reads the positions forwards, which all sizes share; each other lane
    reads those of one size backwards. Step s reads position s forwards and the s-th last backwards: a lane of n items
    starts n steps before the end, with zeros before it.

    The steps are ``advance`` and ``retreat`` of ``steps``: those of ``NumpySteps`` or ``TritonSteps``.

    Axes: s steps (= items), w ways (forwards, backwards), l lanes, g gates (reset, update, candidate), h hidden.
    """

    @staticmethod
    def forward(
        ctx: Any,
        steps: Steps,
        positions: Float[Tensor, "items d_position"],
        sizes: Int[Tensor, " sizes"],
        weight_in: Float[Tensor, "2 gates d_position"],
        weight_hidden: Float[Tensor, "2 gates d_hidden"],
        bias_in: Float[Tensor, "2 gates"],
        bias_hidden: Float[Tensor, "2 gates"],
    ) -> Float[Tensor, "lanes items d_hidden"]:
        width = weight_hidden.shape[2]
        with full_precision(positions.device):
            weighted = torch.baddbmm(bias_in[:, None], positions.expand(2, -1, -1), weight_in.transpose(1, 2))
        inputs = _by_step(weighted).unflatten(2, (3, width))  # s w g h
        kept = steps.advance(inputs, bias_hidden.unflatten(1, (3, width)), weight_hidden, sizes)
        ctx.steps, ctx.sizes = steps, sizes
        ctx.save_for_backward(positions, weight_in, weight_hidden, *kept)
        return _by_lane(kept[0][1:])

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        positions, weight_in, weight_hidden, states, gates, recalled = ctx.saved_tensors
        gates_at = ctx.steps.retreat(_by_step(gradients[0]), (states, gates, recalled), weight_hidden, ctx.sizes)
        at_inputs, at_sums = (of_gates.flatten(2) for of_gates in gates_at)
        before = states[:-1]
        by_way = torch.stack([at_inputs[:, 0], at_inputs[:, 1:].sum(1).flip(0)])
        ways = [
            (at_sums[:, lanes].flatten(0, 1), before[:, lanes].flatten(0, 1)) for lanes in (slice(1), slice(1, None))
        ]
        with full_precision(positions.device):
            return (
                None,
                (by_way @ weight_in).sum(0),
                None,
                by_way.transpose(1, 2) @ positions,
                torch.stack([sums.T @ states for sums, states in ways]),
                by_way.sum(1),
                torch.stack([sums.sum(0) for sums, _ in ways]),
            )


def _by_step(by_position: Float[Tensor, "lanes items ..."]) -> Float[Tensor, "items lanes ..."]:
    """Order by step: position s in the first lane, the s-th last position in the others."""
    return torch.cat([by_position[:1], by_position[1:].flip(1)]).movedim(0, 1).contiguous()


def _by_lane(by_step: Float[Tensor, "items lanes d_hidden"]) -> Float[Tensor, "lanes items d_hidden"]:
    """Order by position: the inverse of ``_by_step``."""
    return torch.cat([by_step[:, :1], by_step[:, 1:].flip(0)], dim=1).movedim(1, 0)
