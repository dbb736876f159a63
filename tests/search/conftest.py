"""A small index with a file whose name holds markup, and the model that made it."""

import pytest

from tests.helpers.photo_folder import paint, small_model
from tests.helpers.photo_index import HOSTILE, indexed
from vse_gpo import VSE
from vse_gpo.search.index import Index


@pytest.fixture(scope="module")
def model() -> VSE:
    return small_model()


@pytest.fixture
def index(tmp_path, model) -> Index:
    files = [HOSTILE, *(f"{number}.png" for number in range(5))]
    for seed, file in enumerate(files):
        paint(tmp_path / "pictures" / file, seed)
    return indexed(tmp_path, model)
