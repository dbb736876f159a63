"""Pictures: every shape where its description says, and unlike the others."""

import math
from dataclasses import replace
from itertools import combinations

import pytest
import torch

from tests.helpers.drawn_scenes import alone, some_scenes
from vse_gpo.data.shapes.drawing import draw
from vse_gpo.data.shapes.scenes import INKS, KINDS, RADII, TEXTURES, Scene


def changed_pixels(scene: Scene, size: int = 96) -> torch.Tensor:
    """True where a scene differs from its bare background, (size, size)."""
    bare = draw(replace(scene, shapes=()), size).int()
    return (draw(scene, size).int() - bare).abs().amax(0) > 8


def test_a_shape_is_drawn_where_its_description_says():
    for scene in some_scenes(30):
        for shape in scene.shapes:
            rows, columns = changed_pixels(replace(scene, shapes=(shape,))).nonzero(as_tuple=True)
            x, y = ((places.min() + places.max() + 1) / 2 / 96 for places in (columns.float(), rows.float()))
            assert abs(x - shape.x) < 0.5 * shape.radius
            assert abs(y - shape.y) < 0.5 * shape.radius
            assert (int(3 * x), int(3 * y)) == (shape.column, shape.row)


@pytest.mark.parametrize("kind", KINDS)
def test_a_shape_fills_its_circle_and_stays_inside(kind):
    for angle in (-0.2, 0.0, 0.2):
        rows, columns = changed_pixels(alone(kind=kind, angle=angle)).nonzero(as_tuple=True)
        furthest = ((columns + 0.5) / 96 - 0.5).hypot((rows + 0.5) / 96 - 0.5).max()
        assert RADII["large"] - 2.5 / 96 < furthest < RADII["large"] + 1.5 / 96
        assert len(rows) > 0.25 * math.pi * (96 * RADII["large"]) ** 2


@pytest.mark.parametrize(("attribute", "values"), [("kind", KINDS), ("colour", INKS), ("texture", TEXTURES)])
@pytest.mark.parametrize("size", RADII)
def test_attributes_look_different_at_every_size(attribute, values, size):
    pictures = [draw(alone(size=size, radius=RADII[size], **{attribute: value}), 64).float() for value in values]
    for a, b in combinations(pictures, 2):
        assert (a - b).abs().amax(0).gt(25).sum() >= 12  # pixels


def test_sizes_do_not_overlap():
    areas = [[int(changed_pixels(alone(radius=radius * by)).sum()) for by in (0.94, 1.06)] for radius in RADII.values()]
    flat = [area for pair in areas for area in pair]
    assert flat == sorted(flat)


def test_the_picture_is_the_same_at_any_resolution():
    for scene in some_scenes(5):
        fine = draw(scene, 256).float()
        averaged = torch.nn.functional.avg_pool2d(fine, 4)
        assert (averaged - draw(scene, 64).float()).abs().mean() < 1.5  # grey levels
