"""Bidirectional GRU over the ranks of sets of several sizes, which share their first ranks: it gives GPO weights."""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from vse_gpo.gru import run_gru

NumpyArray = npt.NDArray[np.floating]


def run_both_ways(
    gru: nn.GRU, positions: Float[Tensor, "items d_position"], sizes: Int[Tensor, " sizes"]
) -> Float[Tensor, "sizes items d_hidden"]:
    """Mean of the two directions' states at every position of each size; values past a size are undefined.

    On a CPU the result is float64, because a softmax of low temperature follows.

    Args:
        gru: one layer, bidirectional, batch first.
        positions: encoded positions; a set of n items uses the first n.
        sizes: set sizes, at least 1.
    """
    if positions.device.type == "cpu" and not torch.compiler.is_exporting():
        weights = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
        both = [torch.stack([getattr(gru, name), getattr(gru, f"{name}_reverse")]).double() for name in weights]
        order = sizes.argsort(descending=True)
        states = _SmallGRU.apply(positions.double(), sizes[order], *both)
        return (states[:1] + states[1:][order.argsort()]) / 2
    return run_gru(gru, positions.expand(sizes.shape[0], -1, -1), sizes).mean(2)


class _SmallGRU(torch.autograd.Function):
    """The same on a CPU, many times faster than ``nn.GRU``, which spends its time on starting thousands of operations.

    All lanes advance together, in numpy. The first lane reads the positions forwards, which all sizes share; each other
    lane reads those of one size backwards. Step s reads position s forwards and the s-th last backwards. Sizes descend,
    so the lanes that have started, at their last item, always come first. It uses float64: this costs little here, and
    rounding errors grow along the steps and with the softmax's low temperature.

    Axes: s steps (= items), w ways (forwards, backwards), l lanes, g gates (reset, update, candidate), h hidden.
    """

    @staticmethod
    def forward(
        ctx: Any,
        positions: Float[Tensor, "items d_position"],
        sizes: Int[Tensor, " sizes"],
        weight_in: Float[Tensor, "2 gates d_position"],
        weight_hidden: Float[Tensor, "2 gates d_hidden"],
        bias_in: Float[Tensor, "2 gates"],
        bias_hidden: Float[Tensor, "2 gates"],
    ) -> Float[Tensor, "lanes items d_hidden"]:
        items, lanes, width = len(positions), 1 + len(sizes), weight_hidden.shape[2]
        ctx.under_way = (1 + (torch.arange(items)[:, None] < sizes).sum(1)).flip(0).tolist()  # active lanes
        weighted = torch.baddbmm(bias_in[:, None], positions.expand(2, -1, -1), weight_in.transpose(1, 2))
        inputs: NumpyArray = _by_step(weighted).unflatten(2, (3, width)).numpy()  # s w g h
        biases = bias_hidden.unflatten(1, (3, width)).numpy()
        added = inputs + biases
        added[:, :, 2] = biases[:, 2]  # the candidate's input is added after the reset
        forwards, backwards = weight_hidden.transpose(1, 2).numpy()
        way = np.arange(lanes).clip(max=1)

        states = np.zeros((items + 1, lanes, width), dtype=inputs.dtype)
        gates = np.zeros((items, lanes, 3, width), dtype=inputs.dtype)
        recalled = np.zeros_like(states[1:])  # what the reset gate scales
        for step, active in enumerate(ctx.under_way):
            before, gate = states[step, :active], gates[step, :active]
            sums = gate.reshape(active, -1)
            np.matmul(before[:1], forwards, out=sums[:1])
            np.matmul(before[1:], backwards, out=sums[1:])
            gate += added[step, way[:active]]
            switches, new = gate[:, :2], gate[:, 2]
            recalled[step, :active] = new
            switches[:] = _sigmoid(switches)
            new *= switches[:, 0]
            new += inputs[step, way[:active], 2]
            np.tanh(new, out=new)
            states[step + 1, :active] = new + switches[:, 1] * (before - new)
        steps = (torch.from_numpy(array) for array in (states, gates, recalled))
        ctx.save_for_backward(positions, weight_in, weight_hidden, *steps)
        return _by_lane(torch.from_numpy(states[1:]))

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        positions, weight_in, weight_hidden, *steps = ctx.saved_tensors
        states, gates, recalled = (array.numpy() for array in steps)
        forwards, backwards = weight_hidden.numpy()
        arriving = _by_step(gradients[0]).numpy()

        # gradient of each gate's input, for a gradient of 1 at the state after it
        reset, update, new = np.moveaxis(gates, 2, 0)
        to_new = (1 - update) * (1 - new * new)
        to_gates = np.stack(
            [to_new * recalled * reset * (1 - reset), (states[:-1] - new) * update * (1 - update), to_new], axis=2
        )
        to_sums = to_gates.copy()
        to_sums[:, :, 2] *= reset
        here = np.zeros_like(recalled)
        carried = np.zeros_like(states[0])
        for step in reversed(range(len(gates))):
            active = ctx.under_way[step]
            at = np.add(arriving[step, :active], carried[:active], out=here[step, :active])
            sums = to_sums[step, :active]
            sums *= at[:, None]
            np.multiply(at, update[step, :active], out=carried[:active])
            carried[:1] += sums[:1].reshape(1, -1) @ forwards
            carried[1:active] += sums[1:].reshape(active - 1, -1) @ backwards
        to_gates *= here[:, :, None]
        at_inputs, at_sums = (torch.from_numpy(array).flatten(2) for array in (to_gates, to_sums))
        before = torch.from_numpy(states[:-1])
        by_way = torch.stack([at_inputs[:, 0], at_inputs[:, 1:].sum(1).flip(0)])
        ways = [
            (at_sums[:, lanes].flatten(0, 1), before[:, lanes].flatten(0, 1)) for lanes in (slice(1), slice(1, None))
        ]
        return (
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


def _sigmoid(values: NumpyArray) -> NumpyArray:
    return 0.5 + 0.5 * np.tanh(0.5 * values)  # cannot overflow
