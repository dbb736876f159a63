"""Maps of words against plain loops, and where they lie."""

from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms.v2.functional import center_crop

from tests.search.test_items import unit_sets
from vse_gpo.backbones.backbone import Backbone
from vse_gpo.backbones.images import Regions
from vse_gpo.backbones.small import small_grid
from vse_gpo.data.images import PrepareImages, resize
from vse_gpo.search.heat import WHOLE, Box, grid_side, in_square, kept_part, painted, shades, word_maps
from vse_gpo.search.items import Compaction
from vse_gpo.search.queries import Word


class Cropped(PrepareImages):
    """The square in the middle of an image."""

    def fit(self, pixels: torch.Tensor) -> torch.Tensor:
        return resize(center_crop(pixels, [min(pixels.shape[1:])]), self.size)


def with_class_token() -> Backbone:
    backbone = Backbone()
    backbone.has_grid, backbone.whole_items = True, 1
    return backbone


@pytest.mark.parametrize(
    ("backbone", "items", "side"),
    [
        (small_grid(8), 16, 4),
        (small_grid(8), 17, None),
        (with_class_token(), 17, 4),
        (with_class_token(), 16, None),
        (with_class_token(), 1, None),  # a tower that gives only its embedding
        (Regions(8), 36, None),
    ],
)
def test_only_the_cells_of_a_grid_have_places(backbone, items, side):
    assert grid_side(backbone, items) == side


def test_a_map_holds_the_similarity_of_a_word_and_each_cells_item():
    images, text = unit_sets(images=2, items=10, seed=1), unit_sets(images=1, items=5, seed=2)
    sets = Compaction(4, "float32")(images, whole=1)
    words = [Word("red", range(1, 2)), Word("circles", range(2, 4))]
    maps = word_maps(words, text, sets, 3)
    assert maps.shape == (2, 2, 3, 3)
    for number, word in enumerate(words):
        for image in range(2):
            for cell in range(9):
                item = sets.values[image, int(sets.owners[image, 1 + cell])]
                expected = np.mean([float(text.values[0, one] @ item) for one in word.items])
                assert float(maps[number, image, cell // 3, cell % 3]) == pytest.approx(expected, abs=1e-5)


def test_shades_run_from_the_lowest_to_the_highest_of_all_images():
    maps = torch.tensor([[[0.1, 0.2], [0.3, 0.1]], [[0.5, 0.1], [0.1, 0.1]]])
    assert shades(maps).flatten().tolist() == [0, 64, 128, 0, 255, 0, 0, 0]
    assert shades(torch.full((1, 2, 2), 0.3)).flatten().tolist() == [0] * 4


def test_a_painted_map_is_a_small_picture_of_shadow():
    made = painted(torch.tensor([[0, 255], [128, 0]], dtype=torch.uint8))
    with Image.open(BytesIO(made)) as picture:
        assert (picture.format, picture.size, picture.mode) == ("PNG", (2, 2), "LA")
        black, shadow = np.asarray(picture).transpose(2, 0, 1)
    assert not black.any()
    assert shadow.tolist() == [[217, 0], [108, 217]]
    assert len(made) < 200


@pytest.mark.parametrize(
    ("prepare", "shape", "expected"),
    [
        (PrepareImages(size=64), (300, 400), WHOLE),
        (PrepareImages(size=8), (400, 300), WHOLE),
        (Cropped(size=64), (300, 400), Box(0.125, 0.0, 0.75, 1.0)),
        (Cropped(size=64), (400, 200), Box(0.0, 0.25, 1.0, 0.5)),
    ],
)
def test_the_part_that_a_preparation_keeps_is_found(prepare, shape, expected):
    assert kept_part(prepare, *shape) == pytest.approx(expected, abs=0.012)


def test_a_part_lies_where_its_image_does_in_the_square():
    assert in_square(WHOLE, 30, 40) == (0.0, 0.125, 1.0, 0.75)
    assert in_square(Box(0.25, 0.0, 0.5, 1.0), 40, 20) == (0.375, 0.0, 0.25, 1.0)
    assert in_square(WHOLE, 10, 10) == WHOLE
