"""GPO's sort and weighted sum as one CUDA kernel, written in Triton, and one for their gradients.

A program holds some channels of one set in registers and sorts and weights them there, so the features are read once
and nothing of their size is written except the order, which the gradient needs: one byte per number for sets of up to
256 items. Forward and backward move 14 bytes per number, where ``torch.sort`` and the code around it move more than 80.
The speed is limited by the sort's comparisons and not by memory: in a bitonic sort each number takes part in
log2(N)·(log2(N) + 1)/2 compare-exchanges of 64-bit integers, 21 in a tile of 64 items and 36 in one of 256.
No sum uses atomics, so that results repeat bit for bit.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple, no_type_check

import torch
import triton
import triton.language as tl
from jaxtyping import Float, Int
from torch import Tensor

from vse_gpo.pooling.kernels.trial import kernels_run

LARGEST_SET = 1024  # items; with larger sets, registers hold too few sets at once
NUMBERS = 1024  # sorted by a warp, 32 per thread: with twice as many, registers spill
FEWEST_CHANNELS, MOST_CHANNELS = 8, 32  # loaded by one memory access; one per thread of a warp
FUSION = {"enable_fp_fusion": False}  # products are rounded before they are summed, as on a CPU


def fused_weigh_by_rank(
    values: Float[Tensor, "batch items dim"],
    lengths: Int[Tensor, " batch"],
    weights: Float[Tensor, "batch ranks"],
) -> Float[Tensor, "batch dim"]:
    """``sorting.weigh_by_rank`` for float32 tensors on a CUDA device and sets of up to ``LARGEST_SET`` items.

    Args:
        values: sets of features.
        lengths: set sizes.
        weights: weight of each rank; at least as many as there are items.
    """
    pooled: Tensor = _FusedWeighing.apply(values, lengths, weights[:, : values.shape[1]])
    return pooled


class Tile(NamedTuple):
    """What one program sorts. All sizes are powers of two; ``items`` is at least the size of a set."""

    items: int
    channels: int
    warps: int


def tile(items: int, dim: int) -> Tile:
    """The tile for sets of this many items, with features of this width."""
    padded = triton.next_power_of_2(items)
    channels = min(max(NUMBERS // padded, FEWEST_CHANNELS), MOST_CHANNELS, triton.next_power_of_2(dim))
    return Tile(padded, channels, max(padded * channels // NUMBERS, 1))


@functools.cache
def run_on(device: torch.device, size: Tile) -> bool:
    """Whether the kernels run on this device with this tile and give the expected values and gradients.

    Tried once for each tile, on one set that fills it: a larger tile needs more of a GPU's registers and shared memory.
    If they do not run, a warning says why, and the caller sorts by ``torch.sort``.

    Args:
        device: where the kernels are to run.
        size: see ``tile``.
    """

    def trial() -> bool:
        found, expected = _trial(fused_weigh_by_rank, size, device), _trial(_plain, size, torch.device("cpu"))
        return all(torch.equal(one.cpu(), other) for one, other in zip(found, expected, strict=True))

    what = f"for sets of up to {size.items} items on {device}"
    return kernels_run(trial, what, "pooling sorts such sets by torch.sort, slower")


def _trial(pool: Callable[[Tensor, Tensor, Tensor], Tensor], size: Tile, device: torch.device) -> tuple[Tensor, ...]:
    """Pooled values and their gradients for a set that fills the tile; small numbers, so that all sums are exact."""
    places = torch.arange(size.items * size.channels, device=device).view(1, size.items, size.channels)
    values = (places * 7919 % 61 - 30).float().requires_grad_()  # mixed, with ties
    weights = (torch.arange(size.items, device=device)[None] % 4).float().requires_grad_()
    pooled = pool(values, torch.tensor([size.items], device=device), weights)
    return pooled, *torch.autograd.grad(pooled.sum(), (values, weights))


def _plain(values: Tensor, _lengths: Tensor, weights: Tensor) -> Tensor:
    """The same for sets without padding, by torch's own stable sort."""
    return (values.sort(dim=1, descending=True, stable=True).values * weights[:, :, None]).sum(1)


class _FusedWeighing(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        values: Float[Tensor, "batch items dim"],
        lengths: Int[Tensor, " batch"],
        weights: Float[Tensor, "batch items"],
    ) -> Float[Tensor, "batch dim"]:
        batch, items, dim = values.shape
        lengths, weights = lengths.contiguous(), weights.contiguous()
        keep = ctx.needs_input_grad[0] or ctx.needs_input_grad[2]
        order = values.new_empty((batch, items, dim) if keep else 0, dtype=torch.uint8 if items <= 256 else torch.int16)
        pooled = values.new_empty(batch, dim)
        size = tile(items, dim)
        with torch.cuda.device_of(values):  # Triton launches on the current device
            weigh_kernel[(batch, triton.cdiv(dim, size.channels))](
                *(values, lengths, weights, pooled, order, items, dim, *values.stride()),
                KEEP_ORDER=keep,
                ITEMS=size.items,
                CHANNELS=size.channels,
                num_warps=size.warps,
                **FUSION,
            )
        ctx.save_for_backward(values, lengths, weights, order)
        return pooled

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        values, lengths, weights, order = ctx.saved_tensors
        batch, items, dim = values.shape
        size = tile(items, dim)
        blocks = triton.cdiv(dim, size.channels)
        of_values = values.new_empty(batch, items, dim)
        of_weights = values.new_empty(blocks, batch, items)  # one part per block of channels
        with torch.cuda.device_of(values):
            gradient_kernel[(batch, blocks)](
                *(gradients[0].contiguous(), values, lengths, weights, order, of_values, of_weights),
                *(items, dim, *values.stride()),
                ITEMS=size.items,
                CHANNELS=size.channels,
                num_warps=size.warps,
                **FUSION,
            )
        return of_values, None, of_weights.sum(0)


# For sets of up to 32 items, a thread gets whole channels, so that sorting moves no number between threads. The reason:
# Triton puts neighbouring channels on neighbouring threads if it knows of no alignment. With alignment, a thread would
# read four channels at once, and a channel's items would be spread over several threads.
# no_type_check: Triton reads a kernel's source and must find the function as it is written.
_SIZES = ["items", "dim", "set_stride", "item_stride"]  # no recompilation for special values


@triton.jit(do_not_specialize=_SIZES, do_not_specialize_on_alignment=["values", "pooled", "order"])
@no_type_check
def weigh_kernel(
    values,
    lengths,
    weights,
    pooled,
    order,
    items,
    dim,
    set_stride,
    item_stride,
    channel_stride,
    KEEP_ORDER: tl.constexpr,  # noqa: N803
    ITEMS: tl.constexpr,  # noqa: N803
    CHANNELS: tl.constexpr,  # noqa: N803
):
    """Sort a tile (channels, items) by one integer per number: its bits, mapped to sort like it, above its item."""
    row = tl.program_id(0).to(tl.int64)
    channel = (tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS))[:, None]
    item = tl.arange(0, ITEMS)[None, :]
    length = tl.load(lengths + row)
    inside = (channel < dim) & (item < length)
    places = row * set_stride + item * item_stride + channel * channel_stride
    found = tl.load(values + places, mask=inside, other=float("-inf"))  # padding sorts last: so do its items
    found = tl.where(found == 0.0, 0.0, found)  # -0.0 and 0.0 are ties
    bits = tl.where(found == found, found.to(tl.int32, bitcast=True), 0x7FFFFFFF)  # every NaN above infinity
    value = ~_ascending(bits)  # largest first
    packed = tl.sort((value.to(tl.int64) << 32) | item.to(tl.int64))

    ordered = _ascending(~(packed >> 32).to(tl.int32)).to(tl.float32, bitcast=True)
    weight = tl.load(weights + row * items + item, mask=item < length, other=0.0)
    weighted = tl.where(item < length, ordered * weight, 0.0)
    tl.store(pooled + row * dim + channel, tl.sum(weighted, axis=1, keep_dims=True), mask=channel < dim)
    if KEEP_ORDER:
        into = order + row * items * dim + item * dim + channel
        tl.store(into, packed.to(order.dtype.element_ty), mask=inside)


@triton.jit(
    do_not_specialize=_SIZES,
    do_not_specialize_on_alignment=["arriving", "values", "order", "of_values", "of_weights"],
)
@no_type_check
def gradient_kernel(
    arriving,
    values,
    lengths,
    weights,
    order,
    of_values,
    of_weights,
    items,
    dim,
    set_stride,
    item_stride,
    channel_stride,
    ITEMS: tl.constexpr,  # noqa: N803
    CHANNELS: tl.constexpr,  # noqa: N803
):
    """Send each rank's gradient back to its item; sum the gradients of the weights over these channels."""
    row = tl.program_id(0).to(tl.int64)
    block = tl.program_id(1)
    channel = (block * CHANNELS + tl.arange(0, CHANNELS))[:, None]
    rank = tl.arange(0, ITEMS)[None, :]
    length = tl.load(lengths + row)
    inside = (channel < dim) & (rank < length)
    gradient = tl.load(arriving + row * dim + channel, mask=channel < dim, other=0.0)
    weight = tl.load(weights + row * items + rank, mask=rank < length, other=0.0)
    own = row * items * dim
    item = tl.load(order + own + rank * dim + channel, mask=inside, other=0).to(tl.int32)
    item = tl.where(rank < length, item, rank)  # padding gets the zeros of the ranks past the length
    into = of_values + own + item * dim + channel
    tl.store(into, gradient * weight, mask=(channel < dim) & (rank < items))

    places = row * set_stride + item * item_stride + channel * channel_stride
    ordered = tl.load(values + places, mask=inside, other=0.0)
    part = tl.sum(gradient * ordered, axis=0, keep_dims=True)
    sets = tl.num_programs(0)
    tl.store(of_weights + (block * sets + row) * items + rank, part, mask=rank < items)


@triton.jit
@no_type_check
def _ascending(bits):
    """Map the bits of floats to integers of the same order; its own inverse."""
    return bits ^ ((bits >> 31) & 0x7FFFFFFF)
