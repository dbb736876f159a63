"""The steps of the recurrence on a CPU, in numpy: all lanes that have started advance together.

It is meant for float64: this costs little here, and rounding errors grow along the steps and with the softmax's low
temperature.
"""

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float, Int
from torch import Tensor

NumpyArray = npt.NDArray[np.floating]


class NumpySteps:
    """On a CPU: all lanes that have started advance together."""

    def advance(
        self,
        inputs: Float[Tensor, "steps 2 3 d_hidden"],
        biases: Float[Tensor, "2 3 d_hidden"],
        weights: Float[Tensor, "2 gates d_hidden"],
        sizes: Int[Tensor, " sizes"],
    ) -> tuple[Tensor, Tensor, Tensor]:
        """All states, gates and what the reset gate scales; see ``recurrence.Steps``.

        Args:
            inputs: of each step and way to the gates.
            biases: of the gates, added to the state's products.
            weights: of the state, for the gates.
            sizes: in descending order, so that the lanes that have started come first.
        """
        items, lanes, width = len(inputs), 1 + len(sizes), weights.shape[2]
        arriving: NumpyArray = inputs.numpy()
        constant = biases.numpy()
        added = arriving + constant
        added[:, :, 2] = constant[:, 2]  # the candidate's input is added after the reset
        forwards, backwards = weights.transpose(1, 2).numpy()
        way = np.arange(lanes).clip(max=1)

        states = np.zeros((items + 1, lanes, width), dtype=arriving.dtype)
        gates = np.zeros((items, lanes, 3, width), dtype=arriving.dtype)
        recalled = np.zeros_like(states[1:])
        for step, active in enumerate(_active(items, sizes)):
            before, gate = states[step, :active], gates[step, :active]
            sums = gate.reshape(active, -1)
            np.matmul(before[:1], forwards, out=sums[:1])
            np.matmul(before[1:], backwards, out=sums[1:])
            gate += added[step, way[:active]]
            switches, new = gate[:, :2], gate[:, 2]
            recalled[step, :active] = new
            switches[:] = _sigmoid(switches)
            new *= switches[:, 0]
            new += arriving[step, way[:active], 2]
            np.tanh(new, out=new)
            states[step + 1, :active] = new + switches[:, 1] * (before - new)
        return torch.from_numpy(states), torch.from_numpy(gates), torch.from_numpy(recalled)

    def retreat(
        self,
        arriving: Float[Tensor, "steps lanes d_hidden"],
        kept: tuple[Tensor, Tensor, Tensor],
        weights: Float[Tensor, "2 gates d_hidden"],
        sizes: Int[Tensor, " sizes"],
    ) -> tuple[Tensor, Tensor]:
        """Gradients of the gates' inputs, and of the state's products with biases; see ``recurrence.Steps``.

        Args:
            arriving: gradients of the states after every step.
            kept: what ``advance`` gave.
            weights, sizes: as ``advance`` took them.
        """
        states, gates, recalled = (tensor.numpy() for tensor in kept)
        forwards, backwards = weights.numpy()
        from_above = arriving.numpy()

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
        under_way = _active(len(gates), sizes)
        for step in reversed(range(len(gates))):
            active = under_way[step]
            at = np.add(from_above[step, :active], carried[:active], out=here[step, :active])
            sums = to_sums[step, :active]
            sums *= at[:, None]
            np.multiply(at, update[step, :active], out=carried[:active])
            carried[:1] += sums[:1].reshape(1, -1) @ forwards
            carried[1:active] += sums[1:].reshape(active - 1, -1) @ backwards
        to_gates *= here[:, :, None]
        return torch.from_numpy(to_gates), torch.from_numpy(to_sums)


def _active(items: int, sizes: Int[Tensor, " sizes"]) -> list[int]:
    """Number of lanes that have started, at every step."""
    active: list[int] = (1 + (torch.arange(items)[:, None] < sizes).sum(1)).flip(0).tolist()
    return active


def _sigmoid(values: NumpyArray) -> NumpyArray:
    return 0.5 + 0.5 * np.tanh(0.5 * values)  # cannot overflow
