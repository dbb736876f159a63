"""Scenes of one to three shapes, sampled so that everything a caption can say about them is clearly visible."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import numpy as np

Colour = tuple[int, int, int]  # RGB, 0–255


class Ink(NamedTuple):
    """Colours of a shape."""

    fill: Colour
    mark: Colour  # of its stripes, dots or checks


KINDS = ("circle", "square", "triangle", "diamond", "star", "heart", "cross", "ring", "moon", "flower")
TEXTURES = ("plain", "striped", "dotted", "checked")
RADII = {"small": 0.12, "medium": 0.165, "large": 0.225}  # in image widths
INKS = {
    "red": Ink((222, 48, 46), (255, 196, 190)),
    "orange": Ink((247, 138, 28), (255, 226, 178)),
    "yellow": Ink((255, 214, 44), (176, 122, 0)),
    "green": Ink((46, 158, 78), (190, 240, 190)),
    "blue": Ink((40, 104, 226), (186, 218, 255)),
    "purple": Ink((134, 66, 190), (228, 200, 255)),
    "pink": Ink((250, 122, 184), (255, 226, 242)),
    "brown": Ink((134, 82, 44), (230, 196, 160)),
    "white": Ink((252, 252, 250), (150, 150, 164)),
    "black": Ink((34, 34, 40), (172, 172, 184)),
}
BACKGROUNDS: dict[str, Colour] = {
    "cream": (246, 233, 204),
    "grey": (164, 170, 176),
    "mint": (184, 226, 204),
    "sky": (176, 214, 244),
    "lavender": (208, 196, 234),
    "navy": (36, 46, 92),
}
CELL_CENTRES = (0.2, 0.5, 0.8)  # of the columns and rows, in image widths
CONTRAST = 110  # minimum RGB distance of a shape's colour from the background
VISIBLE = {
    name: [colour for colour, ink in INKS.items() if math.dist(ink.fill, background) >= CONTRAST]
    for name, background in BACKGROUNDS.items()
}
JITTER = 0.06  # maximum shift of a shape in its cell, in image widths
TILT = 0.2  # maximum rotation of a shape, in radians
GAP = 0.02  # minimum between two shapes, or a shape and the edge

Option = TypeVar("Option")


@dataclass(frozen=True, kw_only=True)
class Shape:
    """One shape. Lengths are in image widths, y points down."""

    kind: str
    colour: str
    size: str
    texture: str
    column: int  # of its cell in a 3×3 grid, from the left
    row: int  # from the top
    x: float  # of its centre
    y: float
    radius: float
    angle: float  # in radians, clockwise

    @property
    def description(self) -> tuple[str, str, str, str, int, int]:
        """Everything that captions can say about it."""
        return (self.kind, self.colour, self.size, self.texture, self.column, self.row)


@dataclass(frozen=True, kw_only=True)
class Scene:
    """Shapes on a background. No two of them share a cell, or both kind and colour."""

    background: str
    shapes: tuple[Shape, ...]

    @property
    def description(self) -> tuple[str, frozenset[tuple[str, str, str, str, int, int]]]:
        """Everything that captions can say about it; they cannot tell two scenes with the same description apart."""
        return (self.background, frozenset(shape.description for shape in self.shapes))


def sample_scene(random: np.random.Generator) -> Scene:
    """Sample a scene of one, two or three shapes; two and three are twice as likely as one."""
    background = _choose(random, list(BACKGROUNDS))
    count = _choose(random, (1, 2, 2, 3, 3))
    while True:
        shapes = tuple(_sample_shape(random, VISIBLE[background]) for _ in range(count))
        if all(_apart(a, b) for i, a in enumerate(shapes) for b in shapes[:i]):
            return Scene(background=background, shapes=shapes)


def _sample_shape(random: np.random.Generator, colours: Sequence[str]) -> Shape:
    size = _choose(random, list(RADII))
    radius = RADII[size] * random.uniform(0.94, 1.06)
    column, row = _choose(random, (0, 1, 2)), _choose(random, (0, 1, 2))
    x, y = (CELL_CENTRES[cell] + random.uniform(-JITTER, JITTER) for cell in (column, row))
    margin = radius + GAP
    return Shape(
        kind=_choose(random, KINDS),
        colour=_choose(random, colours),
        size=size,
        texture=_choose(random, TEXTURES),
        column=column,
        row=row,
        x=min(max(x, margin), 1 - margin),
        y=min(max(y, margin), 1 - margin),
        radius=radius,
        angle=random.uniform(-TILT, TILT),
    )


def _apart(a: Shape, b: Shape) -> bool:
    """Whether two shapes may be in one scene: different in kind or colour, in different cells, not touching."""
    return (
        (a.kind, a.colour) != (b.kind, b.colour)
        and (a.column, a.row) != (b.column, b.row)
        and math.hypot(a.x - b.x, a.y - b.y) >= a.radius + b.radius + GAP
    )


def _choose(random: np.random.Generator, options: Sequence[Option]) -> Option:
    return options[int(random.integers(len(options)))]
