"""The types that the stages exchange, and the one function that encodes batches.

Lengths stay on the CPU, beside values on a GPU: what is decided by them is decided without waiting for the device.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple, TypeVar

import torch
from jaxtyping import Bool, Float, Int, Shaped, UInt8
from torch import Tensor

from vse_gpo.errors import VSEError


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
Inputs = TypeVar("Inputs", bound=ImageInputs | Tokens)


class Batch(NamedTuple):
    """Pairs for training: row i of the images belongs to row i of the captions."""

    images: ImageInputs
    tokens: Tokens
    image_index: Int[Tensor, " batch"]  # row of the image in its split
    caption_index: Int[Tensor, " batch"]
    dense: Tokens | None = None  # a long description of each image, where the data set has them

    def to(self, device: torch.device) -> "Batch":
        """Move the batch to a device, without waiting for it; Lightning calls this."""
        return Batch(
            to_device(self.images, device),
            to_device(self.tokens, device),
            _send(self.image_index, device),
            _send(self.caption_index, device),
            None if self.dense is None else to_device(self.dense, device),
        )


class Indexed(NamedTuple):
    """A batch of one modality for evaluation, with each item's row in its split."""

    inputs: ImageInputs | Tokens
    rows: Int[Tensor, " batch"]

    def to(self, device: torch.device) -> "Indexed":
        """Move the batch to a device, without waiting for it; Lightning calls this."""
        return self._replace(inputs=to_device(self.inputs, device), rows=_send(self.rows, device))


class EncoderOutput(NamedTuple):
    """What an encoder makes of a batch of one modality."""

    embeddings: Float[Tensor, "batch dim"]  # of unit length
    items: Features | None  # of unit length, each on its own; only for models whose interaction compares them


class Embedded(NamedTuple):
    """The output of an encoder, or of another network, for a batch of one modality, with each item's row in its split.

    Args:
        embeddings: (batch, …), or an ``EncoderOutput``.
        rows: (batch,).
    """

    embeddings: Any
    rows: Int[Tensor, " batch"]


def to_device(inputs: Inputs, device: torch.device) -> Inputs:
    """Move the inputs to a device, but not their lengths; inputs in pinned memory without waiting for the device."""
    moved: Any
    if isinstance(inputs, Tensor):
        moved = _send(inputs, device)
    else:
        values, lengths = inputs
        moved = type(inputs)(_send(values, device), lengths)
    return moved


def hand_over(values: Tensor, device: torch.device) -> Tensor:
    """Copy a small tensor to a device; to a GPU through pinned memory, so that the CPU does not wait for it."""
    if device.type == "cuda" and values.device.type == "cpu":
        values = values.pin_memory()
    return _send(values, device)


def _send(values: Tensor, device: torch.device) -> Tensor:
    """Without waiting if it is possible; what a GPU sends to the CPU is complete only after a wait."""
    return values.to(device, non_blocking=device.type != "cpu")


def take(items: Any, rows: slice) -> Any:
    """Select rows of every tensor in a batch, or in a part of one; None stays None."""
    return each_tensor(lambda values: values[rows], items)


def each_tensor(change: Callable[[Any], Any], items: Any) -> Any:
    """The same batch, or part of one, with every tensor changed; None stays None.

    Args:
        change: tensor → what takes its place.
        items: a tensor, or named tuples of them.
    """
    if isinstance(items, tuple):
        return type(items)(*(each_tensor(change, part) for part in items))
    return None if items is None else change(items)


def join_features(parts: Sequence[Features]) -> Features:
    """The sets of all parts in one batch, padded with zeros to the widest."""
    widest = max(part.values.shape[1] for part in parts)
    values = [torch.nn.functional.pad(part.values, (0, 0, 0, widest - part.values.shape[1])) for part in parts]
    return Features(torch.cat(values), torch.cat([part.lengths for part in parts]))


def join_outputs(parts: Sequence[EncoderOutput]) -> EncoderOutput:
    """The rows of all parts in one batch."""
    items = [part.items for part in parts if part.items is not None]
    return EncoderOutput(torch.cat([part.embeddings for part in parts]), join_features(items) if items else None)


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
    """The GPU if there is one, unless ``accelerator`` is ``cpu``.

    Raises:
        VSEError: if a GPU is asked for by name, and there is none.
    """
    usable = torch.cuda.is_available()
    if not usable and accelerator not in ("auto", "cpu"):
        raise VSEError(f"accelerator={accelerator}: no GPU that PyTorch {torch.__version__} can use; set it to auto")
    return torch.device("cuda" if usable and accelerator != "cpu" else "cpu")


def choose_devices(accelerator: str, devices: int | str) -> list[torch.device]:
    """The devices to encode on, each by a process of its own; a CPU may be named several times.

    Args:
        accelerator: see ``choose_device``.
        devices: their number; ``auto`` takes every GPU, or the CPU once.

    Raises:
        VSEError: if it is no number, or there are not so many GPUs.
    """
    kind = choose_device(accelerator).type
    there = torch.cuda.device_count() if kind == "cuda" else 1
    count = there if devices == "auto" else devices
    if not isinstance(count, int) or isinstance(count, bool) or count < 1:
        raise VSEError(f"devices={devices}, expected a whole number from 1 on, or auto")
    if kind == "cuda" and count > there:
        raise VSEError(f"devices={count}, but this machine has {there} GPUs; set devices=auto for all of them")
    return [torch.device(kind, number) if kind == "cuda" else torch.device(kind) for number in range(count)]


PRECISIONS = {"32": None, "bf16": torch.bfloat16, "16": torch.float16}


def in_precision(device: torch.device, precision: int | str) -> AbstractContextManager[Any]:
    """Run matrix products and convolutions in a precision; weights, sums, norms and poolings stay in float32.

    Args:
        device: that computes.
        precision: 32, bf16 or 16; 32 leaves a surrounding autocast as it is.

    Raises:
        VSEError: if it is another one.
    """
    if str(precision) not in PRECISIONS:
        raise VSEError(f"precision={precision}, expected {', '.join(PRECISIONS)}")
    kind = PRECISIONS[str(precision)]
    return nullcontext() if kind is None else torch.autocast(device.type, kind)


def encode_batches(
    encode: Callable[[Any], Any],
    batches: Iterable[Indexed],
    device: torch.device,
    precision: int | str = 32,
) -> Iterator[Embedded]:
    """Encode batches one by one: yield the output of each in float32, with its rows.

    Training, evaluation, extraction, indexing and the library all encode with this function.

    Args:
        encode: an encoder in eval mode, or any other network.
        batches: batches of one modality; of one without items nothing is encoded.
        device: the encoder's device; the outputs stay on it.
        precision: see ``in_precision``.
    """
    for batch in one_ahead(batches, device):
        embeddings: Any = torch.empty(0, 0, device=device)
        if len(batch.rows):
            with torch.inference_mode(), in_precision(device, precision):
                embeddings = encode(batch.inputs)
        yield Embedded(embeddings.float() if isinstance(embeddings, Tensor) else embeddings, batch.rows)


def one_ahead(batches: Iterable[Indexed], device: torch.device) -> Iterator[Indexed]:
    """Batches with their inputs on a device; a GPU gets the next one while it works on the one before.

    Args:
        batches: in pinned memory, if the copy is not to wait.
        device: where the inputs are to be.
    """
    if device.type != "cuda":
        for batch in batches:
            yield batch._replace(inputs=to_device(batch.inputs, device))
        return
    copies, waiting = torch.cuda.Stream(device), None
    for batch in batches:
        with torch.cuda.stream(copies):
            copied = batch._replace(inputs=to_device(batch.inputs, device))
        if waiting is not None:
            yield _ready(*waiting)
        waiting = copied, copies.record_event()
    if waiting is not None:
        yield _ready(*waiting)


def _ready(batch: Indexed, copied: torch.cuda.Event) -> Indexed:
    """Let the GPU's work wait for the copy, and the memory of the copy for the end of the work."""
    values = batch.inputs if isinstance(batch.inputs, Tensor) else batch.inputs[0]
    stream = torch.cuda.current_stream(values.device)
    stream.wait_event(copied)
    values.record_stream(stream)
    return batch
