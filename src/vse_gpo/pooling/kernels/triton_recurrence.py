"""The steps of the recurrence as one CUDA kernel forwards and one backwards, written in Triton.

cuDNN starts several kernels per step, and a set of 256 items has 256 steps one after the other. Here a program takes
one lane through all of its steps and keeps the state and the weights in registers: each of its threads holds the
weights of one number of the next state. All products are float32; nothing is rounded to TensorFloat-32.
"""

from typing import no_type_check

import torch
import triton
import triton.language as tl
from jaxtyping import Float, Int
from torch import Tensor


def warps(width: int) -> int:
    """Warps of a program for states of this width."""
    return max(triton.next_power_of_2(width) ** 2 // 1024, 1)


class TritonSteps:
    """On a GPU: one kernel each way, a program per lane."""

    def advance(
        self,
        inputs: Float[Tensor, "steps 2 3 d_hidden"],
        biases: Float[Tensor, "2 3 d_hidden"],
        weights: Float[Tensor, "2 gates d_hidden"],
        sizes: Int[Tensor, " sizes"],
    ) -> tuple[Tensor, Tensor, Tensor]:
        """All states, gates and what the reset gate scales, for float32 on a CUDA device; see ``recurrence.Steps``.

        Args:
            inputs: of each step and way to the gates.
            biases: of the gates, added to the state's products.
            weights: of the state, for the gates.
            sizes: of the sets, on the CPU.
        """
        items, _, _, width = inputs.shape
        starts = _starts(items, sizes, inputs.device)
        lanes = len(starts)
        states = inputs.new_zeros(items + 1, lanes, width)
        gates, recalled = inputs.new_empty(items, lanes, 3, width), inputs.new_empty(items, lanes, width)
        from_state = weights.unflatten(1, (3, width)).transpose(2, 3).contiguous()
        with torch.cuda.device_of(inputs):  # Triton launches on the current device
            advance_kernel[(lanes,)](
                *(inputs.contiguous(), biases.contiguous(), from_state, starts, states, gates, recalled),
                *(items, lanes, width),
                WIDTH=triton.next_power_of_2(width),
                num_warps=warps(width),
            )
        return states, gates, recalled

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
        items, lanes, width = arriving.shape
        states, gates, recalled = kept
        at_inputs, at_sums = torch.zeros_like(gates), torch.zeros_like(gates)
        with torch.cuda.device_of(arriving):
            retreat_kernel[(lanes,)](
                *(arriving.contiguous(), states, gates, recalled, weights.contiguous()),
                *(_starts(items, sizes, arriving.device), at_inputs, at_sums),
                *(items, lanes, width),
                WIDTH=triton.next_power_of_2(width),
                num_warps=warps(width),
            )
        return at_inputs, at_sums


def _starts(items: int, sizes: Int[Tensor, " sizes"], device: torch.device) -> Int[Tensor, " lanes"]:
    """The first step of every lane."""
    starts = torch.cat([sizes.new_zeros(1), items - sizes])
    return starts.to(device, torch.int32, non_blocking=True)  # so few numbers wait for nothing


# The fastest axis of the weights is the number that a row of products gives, and Triton knows of no alignment, so that
# it puts whole rows on threads: a sum over the state moves nothing between them.
# no_type_check: Triton reads a kernel's source and must find the function as it is written.
_SIZES = ["items", "lanes", "width"]  # no recompilation for special values


@triton.jit(do_not_specialize=_SIZES, do_not_specialize_on_alignment=["weights"])
@no_type_check
def advance_kernel(
    inputs,
    biases,
    weights,
    starts,
    states,
    gates,
    recalled,
    items,
    lanes,
    width,
    WIDTH: tl.constexpr,  # noqa: N803
):
    """Take a lane from its first step to the last; ``weights`` are (ways, gates, from, to)."""
    lane = tl.program_id(0)
    way = tl.minimum(lane, 1)
    to = tl.arange(0, WIDTH)
    inside = to < width
    grid = to[None, :] * width + to[:, None]  # to the number of a row, from that of a column
    both = inside[:, None] & inside[None, :]
    square = weights + way * 3 * width * width
    to_reset = tl.load(square + grid, mask=both, other=0.0)
    to_update = tl.load(square + width * width + grid, mask=both, other=0.0)
    to_new = tl.load(square + 2 * width * width + grid, mask=both, other=0.0)
    own = biases + way * 3 * width + to
    reset_bias = tl.load(own, mask=inside, other=0.0)
    update_bias = tl.load(own + width, mask=inside, other=0.0)
    new_bias = tl.load(own + 2 * width, mask=inside, other=0.0)
    state = tl.zeros([WIDTH], tl.float32)
    for step in range(tl.load(starts + lane), items):
        arrived = inputs + (step * 2 + way) * 3 * width + to
        before = state[None, :]
        reset = tl.sum(to_reset * before, axis=1) + reset_bias + tl.load(arrived, mask=inside, other=0.0)
        update = tl.sum(to_update * before, axis=1) + update_bias + tl.load(arrived + width, mask=inside, other=0.0)
        recall = tl.sum(to_new * before, axis=1) + new_bias
        reset, update = tl.sigmoid(reset), tl.sigmoid(update)
        new = tl.load(arrived + 2 * width, mask=inside, other=0.0) + reset * recall
        new = 2 * tl.sigmoid(2 * new) - 1  # its tanh
        state = new + update * (state - new)
        place = step * lanes + lane
        tl.store(states + (place + lanes) * width + to, state, mask=inside)
        tl.store(recalled + place * width + to, recall, mask=inside)
        kept = gates + place * 3 * width + to
        tl.store(kept, reset, mask=inside)
        tl.store(kept + width, update, mask=inside)
        tl.store(kept + 2 * width, new, mask=inside)


@triton.jit(do_not_specialize=_SIZES, do_not_specialize_on_alignment=["weights"])
@no_type_check
def retreat_kernel(
    arriving,
    states,
    gates,
    recalled,
    weights,
    starts,
    at_inputs,
    at_sums,
    items,
    lanes,
    width,
    WIDTH: tl.constexpr,  # noqa: N803
):
    """Take a lane's gradients from its last step to the first; ``weights`` are (ways, gates, to, from)."""
    lane = tl.program_id(0)
    way = tl.minimum(lane, 1)
    to = tl.arange(0, WIDTH)
    inside = to < width
    grid = to[None, :] * width + to[:, None]  # from the number of a row, to that of a column
    both = inside[:, None] & inside[None, :]
    square = weights + way * 3 * width * width
    to_reset = tl.load(square + grid, mask=both, other=0.0)
    to_update = tl.load(square + width * width + grid, mask=both, other=0.0)
    to_new = tl.load(square + 2 * width * width + grid, mask=both, other=0.0)
    carried = tl.zeros([WIDTH], tl.float32)
    first = tl.load(starts + lane)
    for back in range(items - first):
        place = (items - 1 - back) * lanes + lane
        here = carried + tl.load(arriving + place * width + to, mask=inside, other=0.0)
        before = tl.load(states + place * width + to, mask=inside, other=0.0)
        recall = tl.load(recalled + place * width + to, mask=inside, other=0.0)
        kept = gates + place * 3 * width + to
        reset = tl.load(kept, mask=inside, other=0.0)
        update = tl.load(kept + width, mask=inside, other=0.0)
        new = tl.load(kept + 2 * width, mask=inside, other=0.0)
        at_new = here * (1 - update) * (1 - new * new)
        at_update = here * (before - new) * update * (1 - update)
        at_reset = at_new * recall * reset * (1 - reset)
        at_recall = at_new * reset
        carried = here * update + tl.sum(
            to_reset * at_reset[None, :] + to_update * at_update[None, :] + to_new * at_recall[None, :], axis=1
        )
        into = place * 3 * width + to
        tl.store(at_inputs + into, at_reset, mask=inside)
        tl.store(at_inputs + into + width, at_update, mask=inside)
        tl.store(at_inputs + into + 2 * width, at_new, mask=inside)
        tl.store(at_sums + into, at_reset, mask=inside)
        tl.store(at_sums + into + width, at_update, mask=inside)
        tl.store(at_sums + into + 2 * width, at_recall, mask=inside)
