"""The shapes that the stages exchange."""

from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int, Shaped, UInt8
from torch import Tensor


class Features(NamedTuple):
    """A batch of sets: regions, grid cells or words. Rows past a length are padding and may hold anything."""

    values: Float[Tensor, "batch items dim"]
    lengths: Int[Tensor, " batch"]  # true items per set, at least 1


class Tokens(NamedTuple):
    """A batch of captions as token ids, padded with 0."""

    ids: Int[Tensor, "batch tokens"]
    lengths: Int[Tensor, " batch"]  # true tokens per caption, at least 1


Pixels = UInt8[Tensor, "batch 3 height width"]  # RGB, 0-255; each backbone normalises its own
ImageInputs = Pixels | Features


class Batch(NamedTuple):
    """Pairs for training: row i of the images belongs to row i of the captions."""

    images: ImageInputs
    tokens: Tokens
    image_index: Int[Tensor, " batch"]  # row of the image in its split
    caption_index: Int[Tensor, " batch"]


class Indexed(NamedTuple):
    """One modality for evaluation, with the row that each item has in its split."""

    inputs: ImageInputs | Tokens
    rows: Int[Tensor, " batch"]


def take(items: Any, rows: slice) -> Any:
    """These rows of everything in a batch, or of a part of one."""
    if isinstance(items, Tensor):
        return items[rows]
    return type(items)(*(take(part, rows) for part in items))


def valid_items(lengths: Int[Tensor, " batch"], items: int) -> Bool[Tensor, "batch items"]:
    """True where an item is real and False where it is padding."""
    return torch.arange(items, device=lengths.device) < lengths[:, None]


def pad_sets(sets: list[Shaped[Tensor, "_ ..."]]) -> tuple[Shaped[Tensor, "batch items ..."], Int[Tensor, " batch"]]:
    """Stack sets of different sizes, padded with zeros to the largest."""
    lengths = torch.tensor([len(items) for items in sets])
    return torch.nn.utils.rnn.pad_sequence(sets, batch_first=True), lengths
