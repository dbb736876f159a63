"""Scenes → pixels. Outlines and textures are signed distances, so that edges are smooth at any resolution."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import UInt8
from torch import Tensor

from vse_gpo.data.shapes.scenes import BACKGROUNDS, INKS, Scene, Shape

Plane = npt.NDArray[np.floating[Any]]  # one number per pixel
Distance = Callable[[Plane, Plane], Plane]  # from points (x, y), y up, to an edge; negative inside

RIM = 0.015  # width of a shape's dark rim, in image widths
PERIOD = 0.075  # of a texture, in image widths


def draw(scene: Scene, size: int) -> UInt8[Tensor, "3 size size"]:
    """Draw a scene in RGB; its background is lit from above."""
    light = np.linspace(1.03, 0.93, size, dtype=np.float32)[:, None, None]
    pixels = np.minimum(light * np.array(BACKGROUNDS[scene.background], np.float32), 255.0).repeat(size, axis=1)
    for shape in scene.shapes:
        _paint(pixels, shape)
    return torch.from_numpy(np.rint(pixels).astype(np.uint8)).permute(2, 0, 1).contiguous()


def _paint(pixels: Plane, shape: Shape) -> None:
    """Paint one shape over the pixels (size, size, 3), in place."""
    size = len(pixels)
    reach = shape.radius + 1.0 / size
    left, top = (max(0, int((centre - reach) * size)) for centre in (shape.x, shape.y))
    right, bottom = (int((centre + reach) * size) + 1 for centre in (shape.x, shape.y))
    patch = pixels[top:bottom, left:right]
    across = (np.arange(left, left + patch.shape[1], dtype=np.float32) + 0.5) / size - shape.x
    down = (np.arange(top, top + patch.shape[0], dtype=np.float32)[:, None] + 0.5) / size - shape.y
    cos, sin = np.float32(np.cos(shape.angle)), np.float32(np.sin(shape.angle))
    x, y = across * cos + down * sin, across * sin - down * cos

    radius = np.float32(shape.radius)
    inside = OUTLINES[shape.kind](x / radius, y / radius) * radius
    ink = INKS[shape.colour]
    fill = np.array(ink.fill, np.float32)
    paint = _blend(fill, np.array(ink.mark, np.float32), _cover(MARKS[shape.texture](x, y), size))
    paint = _blend(0.6 * fill, paint, _cover(inside + np.float32(RIM), size))
    patch[:] = _blend(patch, paint, _cover(inside, size))


def _cover(distance: Plane, size: int) -> Plane:
    """Fraction of each pixel that lies inside an edge."""
    return np.clip(0.5 - distance * np.float32(size), 0.0, 1.0)[:, :, None]


def _blend(below: Plane, above: Plane, share: Plane) -> Plane:
    return below + share * (above - below)


# Outlines, inside a circle of radius 1


def _circle(x: Plane, y: Plane) -> Plane:
    return np.hypot(x, y) - 1.0


def _ring(x: Plane, y: Plane) -> Plane:
    return np.abs(np.hypot(x, y) - 0.72) - 0.28


def _moon(x: Plane, y: Plane) -> Plane:
    return np.maximum(_circle(x, y), 0.84 - np.hypot(x - 0.5, y - 0.12))


def _square(x: Plane, y: Plane) -> Plane:
    return np.maximum(np.abs(x), np.abs(y)) - 0.7


def _diamond(x: Plane, y: Plane) -> Plane:
    return 0.82 * np.abs(x) + 0.57 * np.abs(y) - 0.57


def _cross(x: Plane, y: Plane) -> Plane:
    long, short = np.maximum(np.abs(x), np.abs(y)), np.minimum(np.abs(x), np.abs(y))
    return np.maximum(long - 0.94, short - 0.32)


def _triangle(x: Plane, y: Plane) -> Plane:
    return np.maximum(0.87 * np.abs(x) + 0.5 * y, -y) - 0.5


def _star(x: Plane, y: Plane) -> Plane:
    along, aside = _fold(x, y, points=5)
    # the edge runs from the tip (1, 0) to the notch between two tips
    notch_along, notch_aside = 0.45 * math.cos(math.pi / 5), 0.45 * math.sin(math.pi / 5)
    length = math.hypot(1.0 - notch_along, notch_aside)
    return ((along - 1.0) * notch_aside + aside * (1.0 - notch_along)) / length


def _flower(x: Plane, y: Plane) -> Plane:
    along, aside = _fold(x, y, points=6)
    return np.minimum(np.hypot(along - 0.68, aside) - 0.32, np.hypot(x, y) - 0.6)


def _fold(x: Plane, y: Plane, *, points: int) -> tuple[Plane, Plane]:
    """Fold all points into half of the topmost of ``points`` equal sectors: distances along its axis and from it."""
    sector = 2 * math.pi / points
    angle = np.abs((np.arctan2(x, y) + sector / 2) % sector - sector / 2)
    distance = np.hypot(x, y)
    return distance * np.cos(angle), distance * np.sin(angle)


def _heart(x: Plane, y: Plane) -> Plane:
    """After Inigo Quilez, "2D distance functions": a square on its tip with a half disc on each upper side."""
    x, y = 0.7 * np.abs(x), 0.7 * y + 0.52
    lobe = np.hypot(x - 0.25, y - 0.75) - math.sqrt(0.125)
    diagonal = 0.5 * np.maximum(x + y, 0.0)
    tip = np.sqrt(np.minimum(x**2 + (y - 1.0) ** 2, (x - diagonal) ** 2 + (y - diagonal) ** 2)) * np.sign(x - y)
    return np.where(x + y > 1.0, lobe, tip) / 0.7


# Marks of the textures, in image widths


def _nothing(x: Plane, y: Plane) -> Plane:
    return np.ones_like(x + y)


def _stripes(x: Plane, y: Plane) -> Plane:
    return np.abs((x + y) * math.sqrt(0.5) % PERIOD - PERIOD / 2) - PERIOD / 4


def _dots(x: Plane, y: Plane) -> Plane:
    return np.hypot(x % PERIOD - PERIOD / 2, y % PERIOD - PERIOD / 2) - 0.3 * PERIOD


def _checks(x: Plane, y: Plane) -> Plane:
    column, row = (np.abs(along % (2 * PERIOD) - PERIOD) - PERIOD / 2 for along in (x, y))
    return np.maximum(np.minimum(column, row), -np.maximum(column, row))


OUTLINES: dict[str, Distance] = {
    "circle": _circle,
    "square": _square,
    "triangle": _triangle,
    "diamond": _diamond,
    "star": _star,
    "heart": _heart,
    "cross": _cross,
    "ring": _ring,
    "moon": _moon,
    "flower": _flower,
}
MARKS: dict[str, Distance] = {"plain": _nothing, "striped": _stripes, "dotted": _dots, "checked": _checks}
