"""A bidirectional GRU over the ranks of sets of several sizes, which all begin alike: what GPO's weights come from."""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from vse_gpo.gru import run_gru

Array = npt.NDArray[np.floating]


def run_both_ways(
    gru: nn.GRU, positions: Float[Tensor, "items d_position"], sizes: Int[Tensor, " sizes"]
) -> Float[Tensor, "sizes items d_hidden"]:
    """Mean of the two directions' states at every position of each size; what lies past a size is undefined.

    Args:
        gru: one layer, bidirectional, batch first.
        positions: a set of n items has the first n.
        sizes: at least 1.
    """
    if positions.device.type == "cpu" and not torch.compiler.is_exporting():
        weights = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
        both = [torch.stack([getattr(gru, name), getattr(gru, f"{name}_reverse")]).double() for name in weights]
        states = _SmallGRU.apply(positions.double(), sizes, *both)
        return states.mean(0).to(positions.dtype)
    return run_gru(gru, positions.expand(sizes.shape[0], -1, -1), sizes).mean(2)


class _SmallGRU(torch.autograd.Function):
    """The same on a CPU, many times faster than ``nn.GRU``, whose time goes into starting thousands of tiny operations.

    Both directions advance together, in numpy: step s reads position s forwards and the s-th last backwards. A set
    waits in state zero until the backward direction reaches its last item. In float64: it costs nothing here, and
    rounding errors grow along the steps and with the softmax's low temperature.

    Axes: s steps (= items), w ways (forwards, backwards), n sizes, g the three gates, h hidden.
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
    ) -> Float[Tensor, "2 sizes items d_hidden"]:
        items, width = len(positions), weight_hidden.shape[2]
        weighted = torch.baddbmm(bias_in[:, None], positions.expand(2, -1, -1), weight_in.transpose(1, 2))
        inputs: Array = _by_step(weighted[:, :, None]).numpy()
        places = torch.arange(items)[:, None] < sizes
        started = torch.stack([torch.ones_like(places), places.flip(0)], dim=1)[..., None].numpy()  # s w n 1
        hidden_to_gates, bias = weight_hidden.numpy(), bias_hidden.numpy()[:, None]

        states = np.zeros((items + 1, 2, len(sizes), width), dtype=inputs.dtype)
        gates = np.empty((items, 2, len(sizes), 3 * width), dtype=inputs.dtype)  # reset, update, candidate
        recalled = np.empty_like(states[1:])  # what the reset gate lets through or not
        for step in range(items):
            before = states[step]
            sums = before @ hidden_to_gates.transpose(0, 2, 1) + bias
            recalled[step] = sums[..., 2 * width :]
            switches = gates[step, ..., : 2 * width] = _sigmoid((inputs[step] + sums)[..., : 2 * width])
            reset, update = np.split(switches, 2, axis=-1)
            new = gates[step, ..., 2 * width :] = np.tanh(inputs[step, ..., 2 * width :] + reset * recalled[step])
            states[step + 1] = (new + update * (before - new)) * started[step]
        steps = (torch.from_numpy(array) for array in (states, gates, recalled, started))
        ctx.save_for_backward(positions, weight_in, weight_hidden, *steps)
        return _by_item(torch.from_numpy(states[1:]))

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        positions, weight_in, weight_hidden, *steps = ctx.saved_tensors
        states, gates, recalled, started = (array.numpy() for array in steps)
        hidden_to_gates = weight_hidden.numpy()
        arriving = _by_step(gradients[0].movedim(1, 2)).numpy()

        to_inputs = np.empty_like(gates)
        to_sums = np.empty_like(gates)
        carried = np.zeros_like(states[0])
        for step in reversed(range(len(gates))):
            reset, update, new = np.split(gates[step], 3, axis=-1)
            here = (arriving[step] + carried) * started[step]
            to_new = here * (1 - update) * (1 - new * new)
            to_reset = to_new * recalled[step] * reset * (1 - reset)
            to_update = here * (states[step] - new) * update * (1 - update)
            to_inputs[step] = np.concatenate([to_reset, to_update, to_new], axis=-1)
            to_sums[step] = np.concatenate([to_reset, to_update, to_new * reset], axis=-1)
            carried = here * update + to_sums[step] @ hidden_to_gates
        at_inputs = _by_item(torch.from_numpy(to_inputs)).sum(1)  # w s g
        at_sums = torch.from_numpy(to_sums).movedim(1, 0).flatten(1, 2)  # w (s n) g
        before = torch.from_numpy(states[:-1]).movedim(1, 0).flatten(1, 2)
        return (
            (at_inputs @ weight_in).sum(0),
            None,
            at_inputs.transpose(1, 2) @ positions,
            at_sums.transpose(1, 2) @ before,
            at_inputs.sum(1),
            at_sums.sum(1),
        )


def _by_step(by_item: Float[Tensor, "2 items sizes dim"]) -> Float[Tensor, "items 2 sizes dim"]:
    """Position s and the s-th last beside each other."""
    return torch.stack([by_item[0], by_item[1].flip(0)], dim=1)


def _by_item(by_step: Float[Tensor, "items 2 sizes dim"]) -> Float[Tensor, "2 sizes items dim"]:
    """What both directions hold at each position."""
    return torch.stack([by_step[:, 0], by_step[:, 1].flip(0)]).transpose(1, 2)


def _sigmoid(values: Array) -> Array:
    return 0.5 + 0.5 * np.tanh(0.5 * values)  # cannot overflow
