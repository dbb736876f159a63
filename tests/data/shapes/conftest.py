"""What the tests of the embedded data set share."""

import pytest

from vse_gpo.data.shapes import ShapesDataset
from vse_gpo.data.split import Split


@pytest.fixture(scope="module")
def shapes() -> ShapesDataset:
    return ShapesDataset(train=60, dev=20, test=500, size=16, captions=5, seed=0)


@pytest.fixture(scope="module")
def test_split(shapes: ShapesDataset) -> Split:
    return shapes.split("test")
