"""The types that the stages exchange, and the one function that encodes batches.

Lengths stay on the CPU, beside values on a GPU: what is decided by them is decided without waiting for the device.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int, Shaped, UInt8
from torch import Tensor


class Features(NamedTuple):
    """A batch of sets: regions, grid cells or words. Rows past a length are padding and may hold anything."""

    values: Float[Tensor, "batch items dim"]
    lengths: Int[Tensor, " batch"]  # real items per set, at least 1; on the CPU


class Tokens(NamedTuple):
    """A batch of captions as token ids, padded with 0."""

    ids: Int[Tensor, "batch tokens"]
    lengths: Int[Tensor, " batch"]  # real tokens per caption, at least 1; on the CPU


Pixels = UInt8[Tensor, "batch 3 height width"]  # RGB, 0-255; each backbone normalises its own
ImageInputs = Pixels | Features


class Batch(NamedTuple):
    """Pairs for training: row i of the images belongs to row i of the captions."""

    images: ImageInputs
    tokens: Tokens
    image_index: Int[Tensor, " batch"]  # row of the image in its split
    caption_index: Int[Tensor, " batch"]

    def to(self, device: torch.device) -> "Batch":
        """Move the batch to a device, without waiting for it; Lightning calls this."""
        image_index, caption_index = (_send(index, device) for index in self[2:])
        return Batch(to_device(self.images, device), to_device(self.tokens, device), image_index, caption_index)


class Indexed(NamedTuple):
    """A batch of one modality for evaluation, with each item's row in its split."""

    inputs: ImageInputs | Tokens
    rows: Int[Tensor, " batch"]

    def to(self, device: torch.device) -> "Indexed":
        """Move the batch to a device, without waiting for it; Lightning calls this."""
        return Indexed(to_device(self.inputs, device), _send(self.rows, device))


class Embedded(NamedTuple):
    """The output of an encoder for a batch of one modality, with each item's row in its split."""

    embeddings: Float[Tensor, "batch ..."]
    rows: Int[Tensor, " batch"]


def to_device(inputs: ImageInputs | Tokens, device: torch.device) -> ImageInputs | Tokens:
    """Move the inputs to a device, lengths excepted; inputs in pinned memory without waiting for the device."""
    if isinstance(inputs, Tensor):
        return _send(inputs, device)
    values, lengths = inputs
    return type(inputs)(_send(values, device), lengths)


def hand_over(values: Tensor, device: torch.device) -> Tensor:
    """Copy a small tensor to a device; to a GPU through pinned memory, so that the CPU does not wait for it."""
    if device.type == "cuda" and values.device.type == "cpu":
        values = values.pin_memory()
    return _send(values, device)


def _send(values: Tensor, device: torch.device) -> Tensor:
    """Without waiting if it is possible; what a GPU sends to the CPU is complete only after a wait."""
    return values.to(device, non_blocking=device.type != "cpu")


def take(items: Any, rows: slice) -> Any:
    """Select rows of every tensor in a batch, or in a part of one."""
    if isinstance(items, Tensor):
        return items[rows]
    return type(items)(*(take(part, rows) for part in items))


def valid_items(
    lengths: Int[Tensor, " batch"], items: int, device: torch.device | None = None
) -> Bool[Tensor, "batch items"]:
    """Mask that is True for real items and False for padding.

    Args:
        lengths: real items per set.
        items: columns of the mask.
        device: of the mask; None takes that of the lengths.
    """
    if device is not None:
        lengths = hand_over(lengths, device)
    return torch.arange(items, device=lengths.device) < lengths[:, None]


def pad_sets(sets: list[Shaped[Tensor, "_ ..."]]) -> tuple[Shaped[Tensor, "batch items ..."], Int[Tensor, " batch"]]:
    """Stack sets of different sizes, padded with zeros to the largest."""
    lengths = torch.tensor([len(items) for items in sets])
    return torch.nn.utils.rnn.pad_sequence(sets, batch_first=True), lengths


# encoding


def choose_device(accelerator: str) -> torch.device:
    """The GPU if there is one, unless ``accelerator`` is ``cpu``."""
    return torch.device("cuda" if torch.cuda.is_available() and accelerator != "cpu" else "cpu")


def encode_batches(
    encode: Callable[[Any], Float[Tensor, "batch ..."]], batches: Iterable[Indexed], device: torch.device
) -> Iterator[Embedded]:
    """Encode batches one by one: yield the output of each in float32, with its rows.

    Training, evaluation, extraction, indexing and the library all encode with this function.

    Args:
        encode: an encoder in eval mode, or any other network.
        batches: batches of one modality.
        device: the encoder's device; the outputs stay on it.
    """
    for batch in batches:
        with torch.inference_mode():
            embeddings = encode(to_device(batch.inputs, device)).float()
        yield Embedded(embeddings, batch.rows)
