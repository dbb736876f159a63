"""A large batch in the memory of a small one: GradCache (Gao et al. 2021) by PyTorch's own checkpointing.

A contrastive loss needs all embeddings of a batch at once: summing the gradients of smaller batches would optimise
another loss. Embeddings are small; the activations behind them fill the memory.
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from vse_gpo.batch import Batch, Tokens, take


def encode_micro_batches(
    model: nn.Module, batch: Batch, size: int | None
) -> tuple[Float[Tensor, "batch dim"], Float[Tensor, "batch dim"]]:
    """Embeddings of a batch, encoded in micro-batches that keep no activations.

    The backward pass takes the micro-batches one by one, encodes each a second time with the same random draws and
    precision, and holds only the activations of that one. Any loss of the embeddings has the value and the gradients
    of a single pass; the cost is the second encoding.

    A BatchNorm in train mode is the exception: its statistics are those of a micro-batch. Running statistics are
    updated once per micro-batch, in the first pass.

    Args:
        model: batch → embeddings of the images and of the captions.
        batch: pairs.
        size: pairs in a micro-batch; the last may have fewer. None encodes the whole batch once, as usual.
    """
    if size is None:
        embeddings: tuple[Tensor, Tensor] = model(batch)
        return embeddings
    images, captions = zip(*(_embed_twice(model, part) for part in micro_batches(batch, size)), strict=True)
    return torch.cat(images), torch.cat(captions)


def micro_batches(batch: Batch, size: int) -> Iterator[Batch]:
    """Consecutive parts of a batch, with ``size`` pairs each except the last, padded to its longest caption."""
    for first in range(0, len(batch.image_index), size):
        part: Batch = take(batch, slice(first, first + size))
        ids, lengths = part.tokens
        yield part._replace(tokens=Tokens(ids[:, : int(lengths.max())], lengths))


def _embed_twice(model: nn.Module, part: Batch) -> tuple[Tensor, Tensor]:
    torch.clear_autocast_cache()  # shared cached weights would sum micro-batches' gradients in half precision
    embeddings: tuple[Tensor, Tensor] = checkpoint(
        model, part, use_reentrant=False, context_fn=lambda: (nullcontext(), _unchanged_buffers(model))
    )
    return embeddings


@contextmanager
def _unchanged_buffers(model: nn.Module) -> Iterator[None]:
    """Discard what is written to buffers, such as a BatchNorm's running statistics."""
    buffers = [
        (module, name, buffer) for module in model.modules() for name, buffer in module.named_buffers(recurse=False)
    ]
    for module, name, buffer in buffers:
        setattr(module, name, buffer.clone())
    try:
        yield
    finally:
        for module, name, buffer in buffers:
            setattr(module, name, buffer)
