"""Scenes of the embedded data set, a few of them or one of a single shape."""

from dataclasses import replace

import numpy as np

from vse_gpo.data.shapes import ShapesDataset
from vse_gpo.data.shapes.scenes import RADII, Scene, Shape, sample_scene


def tiny_shapes(*, train: int = 10, seed: int = 0) -> ShapesDataset:
    return ShapesDataset(train=train, dev=10, test=10, size=64, captions=5, seed=seed)


def some_scenes(count: int) -> list[Scene]:
    random = np.random.default_rng(7)
    return [sample_scene(random) for _ in range(count)]


def alone(**attributes: object) -> Scene:
    """A scene of one shape in the middle of a grey picture."""
    shape = Shape(
        kind="circle",
        colour="red",
        size="large",
        texture="plain",
        column=1,
        row=1,
        x=0.5,
        y=0.5,
        radius=RADII["large"],
        angle=0.0,
    )
    return Scene(background="grey", shapes=(replace(shape, **attributes),))
