"""A large batch in the memory of a small one: GradCache (Gao et al. 2021) by PyTorch's own checkpointing.

A contrastive loss needs all embeddings of a batch at once: summing the gradients of smaller batches would optimise
another loss. Embeddings are small; the activations behind them fill the memory.
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from vse_gpo.batch import Batch, EncoderOutput, Tokens, join_outputs, take
from vse_gpo.model import VSE


def encode_micro_batches(model: VSE, batch: Batch, size: int | None) -> tuple[EncoderOutput, EncoderOutput]:
    """What a model makes of a batch, encoded in micro-batches that keep no activations.

    The backward pass takes the micro-batches one by one, encodes each a second time with the same random draws and
    precision, and holds only the activations of that one. Any loss of what is encoded has the value and the gradients
    of a single pass; the cost is the second encoding.

    A BatchNorm in train mode is the exception: its statistics are those of a micro-batch. Running statistics are
    updated once per micro-batch, in the first pass.

    Args:
        model: the two encoders.
        batch: pairs.
        size: pairs in a micro-batch; the last may have fewer. None encodes the whole batch once, as usual.
    """
    if size is None:
        return model.outputs(batch)
    images, captions = zip(*(_encode_twice(model, part) for part in micro_batches(batch, size)), strict=True)
    return join_outputs(images), join_outputs(captions)


def micro_batches(batch: Batch, size: int) -> Iterator[Batch]:
    """Consecutive parts of a batch, with ``size`` pairs each except the last, padded to its longest caption."""
    for first in range(0, len(batch.image_index), size):
        part: Batch = take(batch, slice(first, first + size))
        ids, lengths = part.tokens
        yield part._replace(tokens=Tokens(ids[:, : int(lengths.max())], lengths))


def _encode_twice(model: VSE, part: Batch) -> tuple[EncoderOutput, EncoderOutput]:
    torch.clear_autocast_cache()  # shared cached weights would sum micro-batches' gradients in half precision
    outputs: tuple[EncoderOutput, EncoderOutput] = checkpoint(
        model.outputs, part, use_reentrant=False, context_fn=lambda: (nullcontext(), _unchanged_buffers(model))
    )
    return outputs


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
