"""The embedded data set: images of shapes and their captions, the same on every machine, without files."""

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from vse_gpo.data.shapes.drawing import draw
from vse_gpo.data.shapes.grammar import caption
from vse_gpo.data.shapes.scenes import Scene, sample_scene
from vse_gpo.data.split import Split
from vse_gpo.errors import VSEError


class ShapesDataset:
    """Scenes drawn in memory. No two scenes of any splits have the same description; captions are unique in a split.

    Args:
        train, dev, test: number of images; dev and test do not depend on the size of train.
        size: side of the images, in pixels.
        captions: number of captions per image.
        seed: determines everything.
    """

    def __init__(self, *, train: int, dev: int, test: int, size: int, captions: int, seed: int) -> None:
        self.images = {"test": test, "dev": dev, "train": train}  # in the order of generation
        self.size = size
        self.captions = captions
        self.seed = seed

    def split(self, name: str) -> Split:
        """Draw and describe one split.

        Raises:
            VSEError: if there is no split of this name, or it would be empty.
        """
        if name not in self.images:
            raise VSEError(f"shapes have no split {name!r}, expected one of {', '.join(sorted(self.images))}")
        numbers = {name: self.images[name], "size": self.size, "captions": self.captions}
        if none := [number for number, value in numbers.items() if value < 1]:
            raise VSEError(f"shapes with {none[0]}={numbers[none[0]]}, expected 1 or more")
        scenes = self.scenes[name]
        names = [f"{name}_{row:05d}" for row in range(len(scenes))]
        return Split(
            name=name,
            captions=describe_scenes(scenes, self.captions, np.random.default_rng([self.seed, *name.encode()])),
            caption_to_image=np.repeat(np.arange(len(scenes)), self.captions),
            image_ids=names,
            images=Drawings(scenes, names, self.size),
        )

    @cached_property
    def scenes(self) -> dict[str, list[Scene]]:
        """The scenes of each split."""
        random = np.random.default_rng(self.seed)
        described: set[object] = set()
        return {name: _new_scenes(images, described, random) for name, images in self.images.items()}


class Drawings:
    """The images of scenes, all drawn at construction."""

    def __init__(self, scenes: Sequence[Scene], names: Sequence[str], size: int) -> None:
        self.pixels: UInt8[Tensor, "images 3 size size"] = torch.stack([draw(scene, size) for scene in scenes])
        self.names = names

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, row: int) -> UInt8[Tensor, "3 size size"]:
        return self.pixels[row]

    def name(self, row: int) -> str:
        return self.names[row]


def describe_scenes(scenes: Sequence[Scene], count: int, random: np.random.Generator) -> list[str]:
    """Write ``count`` captions for each scene, image-major, all different."""
    written: dict[str, None] = {}  # a set that keeps its order
    for scene in scenes:
        wanted = len(written) + count
        while len(written) < wanted:
            written.setdefault(caption(scene, random))
    return list(written)


def _new_scenes(count: int, described: set[object], random: np.random.Generator) -> list[Scene]:
    """Sample scenes with new descriptions, and add these to ``described``."""
    scenes: list[Scene] = []
    while len(scenes) < count:
        scene = sample_scene(random)
        if scene.description not in described:
            described.add(scene.description)
            scenes.append(scene)
    return scenes
