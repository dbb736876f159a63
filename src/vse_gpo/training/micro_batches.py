"""A large batch in the memory of a small one: GradCache (Gao et al. 2021) by PyTorch's own checkpointing.

A contrastive loss needs all embeddings of a batch at once: summing the gradients of smaller batches would optimise
another loss. Embeddings are small; the activations behind them fill the memory.
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

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
    images, captions = zip(*(_encode_twice(model, part) for part in micro_batches(batch, size)), strict=True)
    return torch.cat(images), torch.cat(captions)


def encode_captions(encoder: nn.Module, tokens: Tokens, size: int | None, *, learn: bool) -> Float[Tensor, "batch dim"]:
    """Embeddings of captions, encoded as ``encode_micro_batches`` encodes a batch.

    Args:
        encoder: of captions.
        tokens: of the captions.
        size: captions in a micro-batch; None encodes all at once.
        learn: whether they get gradients; without, none is encoded a second time.
    """
    parts = [tokens] if size is None else [_shortened(take(tokens, rows)) for rows in _slices(len(tokens.ids), size)]
    again = learn and size is not None
    with torch.set_grad_enabled(learn):
        return torch.cat([_encode_twice(encoder, part) if again else encoder(part) for part in parts])


def micro_batches(batch: Batch, size: int) -> Iterator[Batch]:
    """Consecutive parts of a batch, with ``size`` pairs each except the last, padded to its longest caption."""
    for rows in _slices(len(batch.image_index), size):
        part: Batch = take(batch, rows)
        yield part._replace(tokens=_shortened(part.tokens))


def _slices(items: int, size: int) -> Iterator[slice]:
    return (slice(first, first + size) for first in range(0, items, size))


def _shortened(tokens: Tokens) -> Tokens:
    """Without columns that are padding in every row."""
    return Tokens(tokens.ids[:, : int(tokens.lengths.max())], tokens.lengths)


def _encode_twice(encode: nn.Module, part: Batch | Tokens) -> Any:
    """Embeddings of a part, whose activations are computed again in the backward pass."""
    torch.clear_autocast_cache()  # shared cached weights would sum micro-batches' gradients in half precision
    return checkpoint(encode, part, use_reentrant=False, context_fn=lambda: (nullcontext(), _unchanged_buffers(encode)))


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
