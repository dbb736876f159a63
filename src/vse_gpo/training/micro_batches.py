"""A large batch in the memory of a small one: GradCache (Gao et al. 2021) by PyTorch's own checkpointing.

A contrastive loss needs all embeddings of a batch at once: summing the gradients of smaller batches would optimise
another loss. Embeddings are small; the activations behind them fill the memory.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any

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
    images, captions = zip(
        *(_encode_twice(model.outputs, model, part) for part in micro_batches(batch, size)), strict=True
    )
    return join_outputs(images), join_outputs(captions)


def encode_captions(model: VSE, tokens: Tokens, size: int | None) -> EncoderOutput:
    """What a model makes of captions, encoded as ``encode_micro_batches`` encodes a batch.

    Args:
        model: its text encoder encodes them.
        tokens: of the captions.
        size: captions in a micro-batch; None encodes all at once.
    """
    encode = partial(model.text_encoder.output, with_items=model.interaction is not None)
    if size is None:
        return encode(tokens)
    return join_outputs([_encode_twice(encode, model, part) for part in _parts(tokens, size)])


def encode_teachers(model: VSE, tokens: Tokens, size: int | None) -> EncoderOutput:
    """Embeddings of captions without gradients, so that no activations are kept and nothing is encoded twice.

    Args:
        model: its text encoder encodes them.
        tokens: of the captions.
        size: captions encoded at once; None encodes all.
    """
    encoder, embeddings = model.text_encoder, []
    for part in [tokens] if size is None else _parts(tokens, size):
        with torch.no_grad():
            items = encoder.project(part)
        embeddings.append(encoder.embed(items).detach())  # without gradients GPO's cache would wait for the device
    return EncoderOutput(torch.cat(embeddings), None)


def micro_batches(batch: Batch, size: int) -> Iterator[Batch]:
    """Consecutive parts of a batch, with ``size`` pairs each except the last, padded to its longest caption."""
    parts = zip(_slices(len(batch.image_index), size), _parts(batch.tokens, size), strict=True)
    return (take(batch, rows)._replace(tokens=tokens) for rows, tokens in parts)


def _parts(tokens: Tokens, size: int) -> Iterator[Tokens]:
    """Consecutive captions, padded to the longest of each part."""
    for rows in _slices(len(tokens.ids), size):
        ids, lengths = take(tokens, rows)
        yield Tokens(ids[:, : int(lengths.max())], lengths)


def _slices(items: int, size: int) -> Iterator[slice]:
    return (slice(first, first + size) for first in range(0, items, size))


def _encode_twice(encode: Callable[[Any], Any], model: VSE, part: Batch | Tokens) -> Any:
    """What is encoded of a part, whose activations are computed again in the backward pass."""
    torch.clear_autocast_cache()  # shared cached weights would sum micro-batches' gradients in half precision
    return checkpoint(encode, part, use_reentrant=False, context_fn=lambda: (nullcontext(), _unchanged_buffers(model)))


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
