"""Which regions of an image a word of the query found, as a map over the image."""

from collections.abc import Sequence
from io import BytesIO
from math import isqrt
from typing import NamedTuple

import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from vse_gpo.backbones.backbone import Backbone
from vse_gpo.batch import Features
from vse_gpo.data.preparation import ImagePreparation
from vse_gpo.search.items import ItemSets
from vse_gpo.search.queries import Word

PROBE = 256  # pixels of the longer side of the image that shows what a preparation keeps
OPACITY = 0.85  # of the shadow where a word was found least


class Box(NamedTuple):
    """A part of an image, as shares of its width and height."""

    left: float
    top: float
    width: float
    height: float


WHOLE = Box(0.0, 0.0, 1.0, 1.0)


def in_square(part: Box, height: int, width: int) -> Box:
    """Where a part of an image lies in the square that the whole image is fitted into.

    Args:
        part: of the image.
        height, width: of the image.
    """
    across, down = width / max(height, width), height / max(height, width)
    left, top = (1 - across) / 2 + part.left * across, (1 - down) / 2 + part.top * down
    return Box(left, top, part.width * across, part.height * down)


def grid_side(backbone: Backbone, items: int) -> int | None:
    """Cells per side of the grid that a backbone's items are; None if they have no places in the image.

    Args:
        backbone: of the images.
        items: of an image, those that stand for the whole of it included.
    """
    side = isqrt(max(0, items - backbone.whole_items))
    return side if backbone.has_grid and side > 1 and side**2 == items - backbone.whole_items else None


def word_maps(
    words: Sequence[Word], text: Features, sets: ItemSets, side: int
) -> Float[Tensor, "words images side side"]:
    """Similarity of each word and each cell; cells that were merged share that of their item.

    Args:
        words: of the query; one that is made of pieces gets their mean.
        text: the query's only set of items.
        sets: of the images.
        side: cells per side of their grid, which are the last of an image.
    """
    items = text.values[0].float().cpu()
    of_words = torch.stack([items[word.items.start : word.items.stop].mean(0) for word in words])
    found = torch.einsum("wd,ikd->wik", of_words, sets.features().values)
    cells = sets.owners[:, -(side**2) :].long()
    return found.gather(2, cells.expand(len(words), *cells.shape)).unflatten(2, (side, side))


def shades(maps: Float[Tensor, "images side side"]) -> UInt8[Tensor, "images side side"]:
    """The maps of a word in grey: black at the lowest similarity in any of them, white at the highest."""
    low, high = maps.aminmax()
    return ((maps - low) / (high - low).clamp(min=1e-6) * 255).round().to(torch.uint8)


def painted(shade: UInt8[Tensor, "side side"]) -> bytes:
    """A map as a small PNG of shadow, which the page enlarges: what the word found stays bright, in its own colours."""
    shadow = (OPACITY * (255 - shade.float())).round().to(torch.uint8)
    file = BytesIO()
    Image.fromarray(torch.stack([torch.zeros_like(shadow), shadow], dim=2).numpy()).save(file, "PNG", optimize=True)
    return file.getvalue()


def kept_part(prepare: ImagePreparation, height: int, width: int) -> Box:
    """The part of an image that a preparation keeps, found by a prepared image whose colours say their place.

    Args:
        prepare: squeezes images, or crops them too.
        height, width: of an image.
    """
    scale = PROBE / max(height, width)
    down, across = (max(2, round(scale * size)) for size in (height, width))
    places = torch.zeros(3, down, across)
    places[0] = torch.linspace(0, 255, across)
    places[1] = torch.linspace(0, 255, down)[:, None]
    made = prepare.encode(places.round().to(torch.uint8)).float() / 255
    left, width_kept = _extent(made[0].mean(0))
    top, height_kept = _extent(made[1].mean(1))
    return Box(left, top, width_kept, height_kept)


def _extent(places: Float[Tensor, " size"]) -> tuple[float, float]:
    """Where a line of pixels begins in the image, and its length, from the places of its pixels' centres."""
    step = (places[-1] - places[0]) / (len(places) - 1)
    begin = (places[0] - step / 2).clamp(min=0)
    end = (places[-1] + step / 2).clamp(max=1)
    return float(begin), float(end - begin)
