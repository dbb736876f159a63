"""Sort every channel of a batch of sets and weigh the values by their rank: the costly part of GPO."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float, Int
from torch import Tensor

from vse_gpo.batch import valid_items

BLOCK = 2**15  # numbers sorted at once: what stays in a processor's cache

Floats = npt.NDArray[np.float32]


def sort_descending(
    values: Float[Tensor, "batch items dim"], lengths: Int[Tensor, " batch"]
) -> Float[Tensor, "batch dim items"]:
    """Sort each channel of each set from its largest value down; positions past a length become 0.

    Channels come first in the result, so that one set's channel lies contiguous in memory. Equal values keep
    their order, which decides where their gradients go; NaN comes first.
    """
    if values.device.type == "cpu" and values.dtype == torch.float32:
        ordered: Tensor = _PackedSort.apply(values, lengths)
        return ordered
    valid = valid_items(lengths, values.shape[1])
    by_channel = values.masked_fill(~valid[:, :, None], -torch.inf).transpose(1, 2)
    return by_channel.sort(dim=-1, descending=True, stable=True).values.masked_fill(~valid[:, None, :], 0.0)


def weigh_by_rank(
    values: Float[Tensor, "batch items dim"],
    lengths: Int[Tensor, " batch"],
    weights: Float[Tensor, "batch items"],
) -> Float[Tensor, "batch dim"]:
    """Sum each channel's values, each times the weight of its rank, largest first; padding takes no part.

    The same as ``sort_descending(values, lengths) @ weights``, on a CPU without any tensor of the features' size
    besides what the gradient needs.
    """
    if values.device.type == "cpu" and values.dtype == torch.float32:
        pooled: Tensor = _PackedWeighing.apply(values, lengths, weights)
        return pooled
    return (sort_descending(values, lengths) @ weights[:, :, None]).squeeze(-1)


class _PackedSort(torch.autograd.Function):
    """Descending sort of a CPU's floats, an order of magnitude faster than ``torch.sort``."""

    @staticmethod
    def forward(
        ctx: Any, values: Float[Tensor, "batch items dim"], lengths: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch dim items"]:
        batch, items, dim = values.shape
        ordered = torch.zeros(batch, dim, items)
        into, own, sizes = ordered.numpy(), values.detach().numpy(), lengths.tolist()
        order = np.empty((batch, dim, items), dtype=np.min_scalar_type(items))

        def sort(row: int, channels: slice) -> None:
            size = sizes[row]
            part = own[row, :size, channels]
            into[row, channels, :size], order[row, channels, :size] = _sorted_with_order(part)

        _each_block(sizes, dim, sort)
        ctx.sizes = sizes
        ctx.save_for_backward(torch.from_numpy(order))
        return ordered

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        arriving = gradients[0].numpy()
        order = ctx.saved_tensors[0].numpy()
        batch, dim, items = arriving.shape
        of_values = torch.zeros(batch, items, dim)
        into = of_values.numpy()

        def return_gradients(row: int, channels: slice) -> None:
            size = ctx.sizes[row]
            into[row, :size, channels] = _unsorted(arriving[row, channels, :size], order[row, channels, :size])

        _each_block(ctx.sizes, dim, return_gradients)
        return of_values, None


class _PackedWeighing(torch.autograd.Function):
    """Sort and weighted sum in one pass over a CPU's cache."""

    @staticmethod
    def forward(
        ctx: Any,
        values: Float[Tensor, "batch items dim"],
        lengths: Int[Tensor, " batch"],
        weights: Float[Tensor, "batch items"],
    ) -> Float[Tensor, "batch dim"]:
        batch, items, dim = values.shape
        pooled = torch.empty(batch, dim)
        into, own, sizes = pooled.numpy(), values.detach().numpy(), lengths.tolist()
        of_rank = weights.detach().numpy()
        ctx.sizes = sizes
        if ctx.needs_input_grad[0] or ctx.needs_input_grad[2]:
            all_ordered = np.empty((batch, dim, items), dtype=np.float32)
            all_order = np.empty((batch, dim, items), dtype=np.min_scalar_type(items))
            ctx.save_for_backward(weights, torch.from_numpy(all_ordered), torch.from_numpy(all_order))

            def weigh(row: int, channels: slice) -> None:
                size = sizes[row]
                ordered, order = _sorted_with_order(own[row, :size, channels])
                into[row, channels] = ordered @ of_rank[row, :size]
                all_ordered[row, channels, :size], all_order[row, channels, :size] = ordered, order

        else:

            def weigh(row: int, channels: slice) -> None:
                size = sizes[row]
                ascending = np.sort(own[row, :size, channels].T, axis=-1)
                into[row, channels] = ascending @ of_rank[row, :size][::-1]

        _each_block(sizes, dim, weigh)
        return pooled

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        arriving = gradients[0].contiguous().numpy()
        weights, ordered, order = (saved.numpy() for saved in ctx.saved_tensors)
        batch, dim, items = ordered.shape
        of_values, of_weights = torch.zeros(batch, items, dim), torch.zeros(batch, items)
        values_into, weights_into = of_values.numpy(), of_weights.numpy()

        def return_gradients(row: int, channels: slice) -> None:
            size = ctx.sizes[row]
            here = arriving[row, channels]
            weights_into[row, :size] += here @ ordered[row, channels, :size]
            by_rank = here[:, None] * weights[row, :size]
            values_into[row, :size, channels] = _unsorted(by_rank, order[row, channels, :size])

        _each_block(ctx.sizes, dim, return_gradients)
        return of_values, None, of_weights


def _each_block(sizes: list[int], dim: int, work: Callable[[int, slice], None]) -> None:
    """Run the work on every set, a block of its channels at a time.

    On one thread: the blocks are so short that a second one would mostly wait for Python's lock.
    """
    for row, size in enumerate(sizes):
        step = max(1, BLOCK // size)
        for first in range(0, dim, step):
            work(row, slice(first, first + step))


def _sorted_with_order(values: Floats) -> tuple[Floats, npt.NDArray[np.int64]]:
    """(items, channels) → values of each channel from the largest down, and which item each comes from.

    A float and its item are packed into one 64-bit integer that sorts like the float, so that numpy's vectorised
    integer sort yields both in one pass.
    """
    bits = np.add(values.T, np.float32(0), order="C").view(np.int32)  # turns -0.0 into 0.0: they are ties
    keys = np.invert(_ascending(bits)).astype(np.int64)  # largest first
    keys <<= 32
    keys |= np.arange(len(values))
    keys.sort(axis=-1)
    ordered = _ascending(~(keys >> 32).astype(np.int32)).view(np.float32)
    keys &= 0xFFFFFFFF
    return ordered, keys


def _unsorted(by_rank: Floats, order: npt.NDArray[np.integer]) -> Floats:
    """(channels, ranks) → (items, channels), what belongs to each rank at the item that had it."""
    channels, items = by_rank.shape
    by_item = np.empty(by_rank.size, dtype=np.float32)
    by_item[(np.arange(0, by_rank.size, items)[:, None] + order).ravel()] = by_rank.ravel()
    return by_item.reshape(channels, items).T


def _ascending(bits: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    """Map the bits of floats to integers of the same order; its own inverse."""
    return bits ^ ((bits >> 31) & np.int32(0x7FFFFFFF))
