"""Encoders as towers that take and give plain tensors, as they are exported."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor, nn

from vse_gpo.batch import Features, ImageInputs, Tokens, valid_items
from vse_gpo.data.images import PrepareImages
from vse_gpo.data.regions import PrepareRegions
from vse_gpo.encoder import Encoder
from vse_gpo.errors import VSEError
from vse_gpo.model import VSE

EMBEDDINGS, ITEMS = ("embeddings",), ("embeddings", "items", "item_lengths")  # outputs, the second of interactions


@dataclass(frozen=True, kw_only=True)
class Tower:
    """An encoder that takes and gives plain tensors.

    Args:
        name: image or text.
        module: tensors → unit embeddings, or a tuple of all outputs.
        inputs: name → axes of each tensor; named axes may have any length.
        sample: number of sets, length of the longest → inputs of that size.
        outputs: names of what the module gives.
    """

    name: str
    module: nn.Module
    inputs: Mapping[str, tuple[str | int, ...]]
    sample: Callable[[int, int], tuple[Tensor, ...]]
    outputs: tuple[str, ...] = EMBEDDINGS


class GivesItems(nn.Module):
    """An encoder whose unit items an interaction compares: it gives embeddings, items and the lengths of the sets.

    Padding is 0.

    Args:
        encoder: inputs → output.
    """

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, inputs: ImageInputs | Tokens) -> tuple[Tensor, Tensor, Tensor]:
        embeddings, items = self.encoder.output(inputs, with_items=True)
        if items is None:
            raise VSEError("the encoder gives no items")
        padding = ~valid_items(items.lengths, items.values.shape[1])
        return embeddings, items.values.masked_fill(padding[:, :, None], 0.0), items.lengths


class TakesSets(nn.Module):
    """An encoder of sets that takes their values and lengths as plain tensors.

    Args:
        encoder: sets → outputs.
        kind: ``Features`` or ``Tokens``.
    """

    def __init__(self, encoder: nn.Module, kind: type[Features] | type[Tokens]) -> None:
        super().__init__()
        self.encoder = encoder
        self.kind = kind

    def forward(self, values: Tensor, lengths: Int[Tensor, " batch"]) -> Any:
        return self.encoder(self.kind(values, lengths))


def _outputs(model: VSE, encoder: Encoder) -> tuple[nn.Module, tuple[str, ...]]:
    """An encoder with all outputs that a model compares, and their names."""
    return (encoder, EMBEDDINGS) if model.interaction is None else (GivesItems(encoder), ITEMS)


def image_tower(model: VSE, draws: torch.Generator) -> Tower:
    """The image encoder as a tower: takes pixels, or region features and their lengths.

    Raises:
        VSEError: if the model takes anything else.
    """
    encoder, outputs = _outputs(model, model.image_encoder)
    if isinstance(model.prepare_images, PrepareImages):
        sides = (3, model.prepare_images.size, model.prepare_images.size)

        def pixels(images: int, _items: int) -> tuple[Tensor, ...]:
            return (torch.randint(256, (images, *sides), dtype=torch.uint8, generator=draws),)

        inputs: dict[str, tuple[str | int, ...]] = {"pixels": ("batch", *sides)}
        return Tower(name="image", module=encoder, inputs=inputs, sample=pixels, outputs=outputs)
    if not isinstance(model.prepare_images, PrepareRegions):
        raise VSEError(f"{type(model.prepare_images).__name__} cannot be exported, expected pixels or regions")
    width: int = model.image_encoder.backbone.width  # type: ignore[assignment]

    def regions(images: int, items: int) -> tuple[Tensor, ...]:
        return torch.randn(images, items, width, generator=draws), _lengths(images, items, draws)

    inputs = {"regions": ("batch", "items", width), "lengths": ("batch",)}
    return Tower(name="image", module=TakesSets(encoder, Features), inputs=inputs, sample=regions, outputs=outputs)


def text_tower(model: VSE, draws: torch.Generator) -> Tower:
    """The text encoder as a tower: takes token ids, padded with 0, and their lengths."""
    encoder, outputs = _outputs(model, model.text_encoder)
    words: int = model.prepare_captions.tokenizer.vocabulary_size

    def tokens(captions: int, items: int) -> tuple[Tensor, ...]:
        lengths = _lengths(captions, items, draws)
        ids = torch.randint(1, words, (captions, items), generator=draws)
        return ids.masked_fill(torch.arange(items) >= lengths[:, None], 0), lengths

    inputs = {"ids": ("batch", "tokens"), "lengths": ("batch",)}
    return Tower(name="text", module=TakesSets(encoder, Tokens), inputs=inputs, sample=tokens, outputs=outputs)


def _lengths(sets: int, longest: int, draws: torch.Generator) -> Int[Tensor, " sets"]:
    """Random lengths of sets, the last one the longest."""
    lengths = torch.randint(1, longest + 1, (sets,), generator=draws)
    lengths[-1] = longest
    return lengths
