"""Sort every channel of a batch of sets, the costly part of GPO."""

from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from vse_gpo.batch import valid_items


def sort_descending(
    values: Float[Tensor, "batch items dim"], lengths: Int[Tensor, " batch"]
) -> Float[Tensor, "batch dim items"]:
    """Sort each channel of each set from its largest value down; positions past a length become 0.

    Channels come first in the result, so that one set's channel lies contiguous in memory. Equal values keep
    their order, which decides where their gradients go.
    """
    valid = valid_items(lengths, values.shape[1])
    by_channel = values.masked_fill(~valid[:, :, None], -torch.inf).transpose(1, 2).contiguous()
    if values.device.type == "cpu" and values.dtype == torch.float32:
        ordered = _PackedSort.apply(by_channel)
    else:
        ordered = by_channel.sort(dim=-1, descending=True, stable=True).values
    return ordered.masked_fill(~valid[:, None, :], 0.0)


class _PackedSort(torch.autograd.Function):
    """Descending sort along the last axis on a CPU, an order of magnitude faster than ``torch.sort``.

    A float and its position are packed into one 64-bit integer that sorts like the float, so that numpy's
    vectorised integer sort yields the values and the permutation in one pass.
    """

    @staticmethod
    def forward(ctx: Any, values: Float[Tensor, "batch dim items"]) -> Float[Tensor, "batch dim items"]:
        ordered = torch.empty_like(values)
        permutation = torch.empty(values.shape, dtype=torch.int64)
        positions = np.arange(values.shape[-1], dtype=np.int64)
        # one set at a time stays in the processor's cache
        for one_set, its_order, its_permutation in zip(values, ordered, permutation, strict=True):
            bits = (one_set + 0.0).numpy().view(np.int32)  # + 0.0 turns -0.0 into 0.0: they are ties
            keys = its_permutation.numpy()
            np.invert(_ascending(bits), out=keys)  # largest first
            np.left_shift(keys, 32, out=keys)
            np.bitwise_or(keys, positions, out=keys)
            keys.sort(axis=-1)
            its_order.numpy().view(np.int32)[:] = _ascending(~(keys >> 32).astype(np.int32))
            np.bitwise_and(keys, 0xFFFFFFFF, out=keys)
        ctx.save_for_backward(permutation)
        return ordered

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (permutation,) = ctx.saved_tensors
        return torch.empty_like(gradients[0]).scatter_(-1, permutation, gradients[0].contiguous())


def _ascending(bits: np.ndarray[Any, np.dtype[np.int32]]) -> np.ndarray[Any, np.dtype[np.int32]]:
    """Map the bits of floats to integers of the same order; its own inverse."""
    return bits ^ ((bits >> 31) & np.int32(0x7FFFFFFF))
