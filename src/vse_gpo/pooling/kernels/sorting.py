"""Sort every channel of a batch of sets and weight the values by their rank: the costly part of GPO."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float, Int
from torch import Tensor

from vse_gpo.batch import valid_items
from vse_gpo.pooling.kernels.trial import HAS_TRITON

BLOCK = 2**18  # numbers sorted at once: they fit a processor's cache, and Python's overhead stays small
PAGE = 1024  # bytes; rows of a multiple of this size share few places of a processor's cache

Floats = npt.NDArray[np.float32]
Items = npt.NDArray[np.integer]


def sort_descending(
    values: Float[Tensor, "batch items dim"], lengths: Int[Tensor, " batch"]
) -> Float[Tensor, "batch dim items"]:
    """Sort each channel of each set in descending order; positions past a length become 0.

    Channels come first in the result, so that each channel of a set is contiguous in memory. Equal values keep their
    order, which decides where their gradients go; NaN comes first.
    """
    if _packs(values):
        ordered: Tensor = _PackedSort.apply(values, lengths)
        return ordered
    valid = valid_items(lengths, values.shape[1])
    by_channel = values.masked_fill(~valid[:, :, None], -torch.inf).transpose(1, 2)
    if torch.compiler.is_exporting():  # without gradients ties do not matter, and ONNX has no stable sort
        ordered = by_channel.sort(dim=-1, descending=True).values
    else:
        ordered = by_channel.sort(dim=-1, descending=True, stable=True).values
    return ordered.masked_fill(~valid[:, None, :], 0.0)


def weigh_by_rank(
    values: Float[Tensor, "batch items dim"],
    lengths: Int[Tensor, " batch"],
    weights: Float[Tensor, "batch ranks"],
) -> Float[Tensor, "batch dim"]:
    """Sum each channel's values, each times the weight of its rank, largest first; padding is ignored.

    Equals ``sort_descending(values, lengths) @ weights``. On a CPU, and on a GPU with Triton for sets of up to 1,024
    items, it makes no tensor of the features' size except what the gradient needs.

    Args:
        values: sets of features.
        lengths: set sizes.
        weights: weight of each rank; at least as many as the longest set has items.
    """
    if _packs(values):
        pooled: Tensor = _PackedWeighing.apply(values, lengths, weights)
        return pooled
    values = values[:, : weights.shape[1]]
    if values.device.type == "cuda" and values.dtype == torch.float32 and HAS_TRITON:
        from vse_gpo.pooling.kernels import triton_kernels  # noqa: PLC0415, takes a second

        size = triton_kernels.tile(values.shape[1], values.shape[2])
        if values.shape[1] <= triton_kernels.LARGEST_SET and triton_kernels.run_on(values.device, size):
            return triton_kernels.fused_weigh_by_rank(values, lengths, weights)
    return (sort_descending(values, lengths) @ weights[:, : values.shape[1], None]).squeeze(-1)


def _packs(values: Tensor) -> bool:
    """Whether the values can be sorted in numpy, which cannot be exported."""
    return values.device.type == "cpu" and values.dtype == torch.float32 and not torch.compiler.is_exporting()


class _PackedSort(torch.autograd.Function):
    """Descending sort of floats on a CPU, an order of magnitude faster than ``torch.sort``."""

    @staticmethod
    def forward(
        ctx: Any, values: Float[Tensor, "batch items dim"], lengths: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch dim items"]:
        batch, items, dim = values.shape
        ordered = torch.zeros(batch, dim, items)
        into, own = ordered.numpy(), values.detach().numpy()
        order = np.empty((batch, dim, items), dtype=np.min_scalar_type(items))

        def sort(block: _Block, memory: _Memory) -> None:
            rows, channels, size = block
            into[rows, channels, :size], order[rows, channels, :size] = memory.sort(own[rows, :size, channels])

        ctx.sizes = lengths.tolist()
        _each_block(ctx.sizes, dim, sort)
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

        def return_gradients(block: _Block, memory: _Memory) -> None:
            rows, channels, size = block
            by_rank = arriving[rows, channels, :size]
            into[rows, :size, channels] = memory.unsort(by_rank, order[rows, channels, :size])

        _each_block(ctx.sizes, dim, return_gradients)
        return of_values, None


class _PackedWeighing(torch.autograd.Function):
    """Sort and weighted sum on a CPU, in one pass over blocks that fit its cache."""

    @staticmethod
    def forward(
        ctx: Any,
        values: Float[Tensor, "batch items dim"],
        lengths: Int[Tensor, " batch"],
        weights: Float[Tensor, "batch ranks"],
    ) -> Float[Tensor, "batch dim"]:
        batch, ctx.items, dim = values.shape
        ranks = weights.shape[1]
        pooled = torch.empty(batch, dim)
        into, own = pooled.numpy(), values.detach().numpy()
        of_rank = weights.detach().numpy()
        ctx.sizes = lengths.tolist()
        if ctx.needs_input_grad[0] or ctx.needs_input_grad[2]:
            all_ordered = np.empty((batch, dim, ranks), dtype=np.float32)
            all_order = np.empty((batch, dim, ranks), dtype=np.min_scalar_type(ranks))
            ctx.save_for_backward(weights, torch.from_numpy(all_ordered), torch.from_numpy(all_order))

            def weigh(block: _Block, memory: _Memory) -> None:
                rows, channels, size = block
                ordered, order = memory.sort(own[rows, :size, channels])
                into[rows, channels] = (ordered @ of_rank[rows, :size, None])[..., 0]
                all_ordered[rows, channels, :size], all_order[rows, channels, :size] = ordered, order

        else:

            def weigh(block: _Block, memory: _Memory) -> None:
                rows, channels, size = block
                ascending = memory.sort_values(own[rows, :size, channels])
                into[rows, channels] = (ascending @ of_rank[rows, :size][:, ::-1, None])[..., 0]

        _each_block(ctx.sizes, dim, weigh)
        return pooled

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        arriving = gradients[0].numpy()
        weights, ordered, order = (saved.numpy() for saved in ctx.saved_tensors)
        batch, dim, ranks = ordered.shape
        of_values = np.empty((batch, ctx.items, dim), dtype=np.float32)  # in pages larger than torch's
        of_weights = np.zeros((batch, ranks), dtype=np.float32)

        def return_gradients(block: _Block, memory: _Memory) -> None:
            rows, channels, size = block
            here = arriving[rows, channels]
            of_weights[rows, :size] += (here[:, None] @ ordered[rows, channels, :size])[:, 0]
            by_rank = here[:, :, None] * weights[rows, None, :size]
            of_values[rows, :size, channels] = memory.unsort(by_rank, order[rows, channels, :size])
            of_values[rows, size:, channels] = 0.0

        _each_block(ctx.sizes, dim, return_gradients)
        return torch.from_numpy(of_values), None, torch.from_numpy(of_weights)


class _Block(NamedTuple):
    """Some channels of some sets of one size."""

    rows: npt.NDArray[np.int64]
    channels: slice
    size: int


def _each_block(sizes: list[int], dim: int, work: Callable[[_Block, "_Memory"], None]) -> None:
    """Run the work on all sets, block by block, on as many threads as torch uses.

    A block holds sets of one size. One thread handles all channels of a set, in order.
    """
    by_size = np.argsort(sizes, kind="stable")
    bounds = np.flatnonzero(np.diff(np.asarray(sizes)[by_size], prepend=-1, append=-1))
    groups = []
    for first, last in pairwise(bounds):
        at_once = max(1, BLOCK // (sizes[by_size[first]] * dim))
        groups += np.split(by_size[first:last], range(at_once, last - first, at_once))

    def run(own: list[npt.NDArray[np.int64]]) -> None:
        memory = _Memory(max(sizes))
        # NaN is no error here, as in torch; and BLAS may raise its flag without one (numpy's issue 24067)
        with np.errstate(invalid="ignore"):
            for rows in own:
                size = sizes[rows[0]]
                step = max(1, BLOCK // size)
                for channel in range(0, dim, step):
                    work(_Block(rows, slice(channel, channel + step), size), memory)

    threads = min(torch.get_num_threads(), len(groups))
    if threads == 1:
        run(groups)
    else:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(run, [groups[thread::threads] for thread in range(threads)]))


class _Memory:
    """Buffers of one thread, reused so that no block allocates memory."""

    def __init__(self, largest: int) -> None:
        numbers = max(BLOCK, largest)
        self.keys = np.empty(numbers, dtype=np.int64)
        self.bits = np.empty(numbers, dtype=np.int32)
        self.spaced = np.empty(numbers + numbers // 16, dtype=np.int32)
        self.signs = np.empty_like(self.spaced)

    def sort(self, values: Floats) -> tuple[Floats, Items]:
        """(sets, items, channels) → values of each channel, largest first, and the item that each comes from.

        A float and its item are packed into one 64-bit integer that sorts like the float, so that numpy's vectorised
        integer sort yields both in one pass. Both results are views of these buffers: the next block overwrites them.
        """
        sets, items, channels = values.shape
        shape = (sets, channels, items)
        keys, bits = self.keys[: values.size].reshape(shape), self.bits[: values.size].reshape(shape)
        item, value = np.moveaxis(keys.view(np.int32).reshape(*shape, 2), -1, 0)  # low half, high half
        spaced = self._spaced(values)
        floats = spaced[:, :, :channels].view(np.float32)
        if np.isnan(floats.max()):
            floats[np.isnan(floats)] = np.nan  # all of one sign and payload, larger than everything else
        keys[:] = np.arange(items)
        np.invert(self._ascending(spaced)[:, :, :channels].swapaxes(1, 2), out=value)  # largest first
        keys.sort(axis=-1)
        np.invert(value, out=bits)
        return self._ascending(bits).view(np.float32), item

    def sort_values(self, values: Floats) -> Floats:
        """(sets, items, channels) → (sets, channels, ranks), values of each channel in ascending order, NaN last."""
        sets, items, channels = values.shape
        ordered = self.bits[: values.size].view(np.float32).reshape(sets, channels, items)
        ordered[:] = self._spaced(values)[:, :, :channels].view(np.float32).swapaxes(1, 2)
        ordered.sort(axis=-1)
        return ordered

    def _spaced(self, values: Floats) -> npt.NDArray[np.int32]:
        """Bits of the values, with -0.0 as 0.0 because they tie. Some unused channels follow in every row.

        They spread the values of one channel, which are read one after the other, over a processor's cache.
        """
        sets, items, channels = values.shape
        width = channels + (16 if channels * 4 % PAGE == 0 else 0)
        spaced = self.spaced[: sets * items * width].reshape(sets, items, width)
        np.add(values, np.float32(0), out=spaced[:, :, :channels].view(np.float32))
        return spaced

    def _ascending(self, bits: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
        """Map the bits of floats, in place, to integers of the same order; its own inverse."""
        magnitudes = self.signs[: bits.size].reshape(bits.shape)
        np.right_shift(bits, 31, out=magnitudes)
        np.bitwise_and(magnitudes, np.int32(0x7FFFFFFF), out=magnitudes)
        return np.bitwise_xor(bits, magnitudes, out=bits)

    def unsort(self, by_rank: Floats, order: Items) -> Floats:
        """(sets, channels, ranks) → (sets, items, channels): the value of each rank at the item that had this rank."""
        places = self.keys[: by_rank.size].reshape(by_rank.shape)
        np.add(order, np.arange(0, by_rank.size, by_rank.shape[2]).reshape(*by_rank.shape[:2], 1), out=places)
        by_item = self.bits[: by_rank.size].view(np.float32)
        by_item[places.ravel()] = by_rank.ravel()
        return by_item.reshape(by_rank.shape).swapaxes(1, 2)
