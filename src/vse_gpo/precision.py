"""How float32 products are rounded on a GPU: a setting of the commands, and the products that stay exact."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor


@contextmanager
def float32_products(precision: str, *, cudnn_benchmark: bool) -> Iterator[None]:
    """Compute as these settings say.

    All products follow one setting, those of cuDNN's convolutions and GRUs too. It is made by torch's first interface
    to it: torch raises errors where it is read after a setting by the second (``fp32_precision``) that separates them.

    Args:
        precision: what the factors of a product are rounded to: ``highest`` to nothing, ``high`` to TensorFloat-32 with
            10 bits behind the point where a GPU has it, ``medium`` in matrix products to bfloat16 with 7.
        cudnn_benchmark: whether cuDNN times its convolutions at the first batch of each shape, and takes the fastest.
    """
    cudnn = torch.backends.cudnn
    before = torch.get_float32_matmul_precision(), cudnn.allow_tf32, cudnn.benchmark
    _set(precision, precision != "highest", cudnn_benchmark)
    try:
        yield
    finally:
        _set(*before)


def _set(matmul: str, allow_tf32: bool, benchmark: bool) -> None:
    torch.set_float32_matmul_precision(matmul)
    torch.backends.cudnn.allow_tf32 = allow_tf32
    torch.backends.cudnn.benchmark = benchmark


@contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """Compute float32 matrix products without rounding their factors, in mixed precision too.

    Args:
        device: that computes.
    """
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        torch.set_float32_matmul_precision(before)


def full_product(
    rows: Float[Tensor, "rows dim"], columns: Float[Tensor, "columns dim"]
) -> Float[Tensor, "rows columns"]:
    """``rows @ columns.T`` in full precision, in the backward pass too.

    Args:
        rows, columns: vectors whose dot products are asked for.
    """
    products: Tensor = _FullProduct.apply(rows, columns)
    return products


class _FullProduct(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Float[Tensor, "rows dim"], columns: Float[Tensor, "columns dim"]) -> Tensor:
        ctx.save_for_backward(rows, columns)
        with full_precision(rows.device):
            return rows @ columns.T

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        rows, columns = ctx.saved_tensors
        with full_precision(rows.device):
            return gradients[0] @ columns, gradients[0].T @ rows
