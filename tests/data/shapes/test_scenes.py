"""Scenes: shapes that lie apart, of every attribute."""

from itertools import combinations

from tests.helpers.drawn_scenes import some_scenes
from vse_gpo.data.shapes.scenes import BACKGROUNDS, INKS, KINDS, RADII, TEXTURES


def test_scenes_hold_one_to_three_shapes_that_lie_apart_inside_the_picture():
    scenes = some_scenes(300)
    assert {len(scene.shapes) for scene in scenes} == {1, 2, 3}
    for scene in scenes:
        for shape in scene.shapes:
            assert shape.radius <= min(shape.x, shape.y) <= max(shape.x, shape.y) <= 1 - shape.radius
            assert (int(3 * shape.x), int(3 * shape.y)) == (shape.column, shape.row)
        for a, b in combinations(scene.shapes, 2):
            assert (a.x - b.x) ** 2 + (a.y - b.y) ** 2 > (a.radius + b.radius) ** 2
            assert (a.kind, a.colour) != (b.kind, b.colour)


def test_every_attribute_occurs():
    scenes = some_scenes(400)
    shapes = [shape for scene in scenes for shape in scene.shapes]
    assert {scene.background for scene in scenes} == set(BACKGROUNDS)
    for attribute, values in (("kind", KINDS), ("colour", INKS), ("size", RADII), ("texture", TEXTURES)):
        assert {getattr(shape, attribute) for shape in shapes} == set(values)
