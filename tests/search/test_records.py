"""Rows of a table: what goes in comes out, and what has changed on the disk does not."""

from datetime import datetime

import numpy as np
import pyarrow as pa
import pytest
import torch

from tests.helpers.photo_folder import unit
from tests.search.test_items import unit_sets
from vse_gpo.errors import VSEError
from vse_gpo.search.items import NUMBERS, Compaction
from vse_gpo.search.metadata import Facts
from vse_gpo.search.pictures import EmbeddedImages, Photo
from vse_gpo.search.records import (
    checked_matrix,
    checksums,
    fixed_lists,
    items_column,
    matrix_of,
    pictures_of,
    record_batch,
    sets_of,
    width_of,
)
from vse_gpo.search.stored import Picture

PICTURES = [Picture("a.jpg", 10, 3), Picture("deep/b.jpg", 11, 4)]
PHOTO = Photo("ab", Facts(40, 30, datetime(2023, 5, 1, 12, 30), "Apple iPhone 13", 47.5, -8.25), -3, b"jpeg")
NOTHING = Photo("cd", Facts(4, 3, None, None, None, None), None, None)


def test_a_row_holds_everything_of_an_image():
    embeddings = unit(2)
    rows = record_batch(EmbeddedImages(PICTURES, embeddings, {}, None, [PHOTO, NOTHING]))
    assert width_of(rows.schema) == 16
    assert pictures_of(rows) == PICTURES
    assert torch.equal(checked_matrix(rows), embeddings)
    first, second = ({name: row[name] for name in row.keys() - {"embedding"}} for row in rows.to_pylist())
    assert first == {
        "file": "a.jpg", "bytes": 10, "modified": 3, "hash": "ab", "width": 40, "height": 30, "phash": -3,
        "date": datetime(2023, 5, 1, 12, 30), "camera": "Apple iPhone 13", "latitude": 47.5, "longitude": -8.25,
        "thumbnail": b"jpeg", "checksum": checksums(embeddings[:1].numpy())[0],
    }  # fmt: skip
    assert {name for name, value in second.items() if value is None} == {
        *("date", "camera", "latitude", "longitude", "phash", "thumbnail")
    }


@pytest.mark.parametrize(("value", "message"), [(torch.nan, "holds NaN or infinity"), (0.0, "is zero")])
def test_an_embedding_without_a_direction_is_refused(value, message):
    embeddings = unit(2)
    embeddings[1] = value
    with pytest.raises(VSEError, match=f"embedding of image 1 {message}"):
        record_batch(EmbeddedImages(PICTURES, embeddings, {}))


def test_any_flipped_bit_is_found():
    random = np.random.default_rng(0)
    matrix = unit(50).numpy()
    known = pa.array(checksums(matrix))
    for place in random.integers(0, matrix.nbytes, 200):
        flipped = matrix.copy()
        flipped.view(np.uint8).reshape(-1)[place] ^= 1 << random.integers(8)
        with pytest.raises(ValueError, match="embeddings have changed on the disk"):
            checked_matrix(pa.table({"embedding": fixed_lists(flipped), "checksum": known}))


def test_lists_are_read_from_any_part_of_a_column():
    matrix = np.arange(24, dtype=np.float32).reshape(6, 4)
    column = pa.chunked_array([fixed_lists(matrix[:4]), fixed_lists(matrix[4:])])
    assert (matrix_of(column) == matrix).all()
    assert (matrix_of(column.slice(3, 2)) == matrix[3:5]).all()
    for wrong in (pa.array([[1.0]]), pa.array([1.0]), pa.array([None, [1.0]], pa.list_(pa.float32(), 1))):
        with pytest.raises(ValueError, match="expected lists of numbers"):
            matrix_of(wrong)


def test_a_table_of_something_else_is_refused():
    rows = record_batch(EmbeddedImages(PICTURES, unit(2), {}))
    for wrong in (
        rows.schema.remove(rows.schema.get_field_index("date")),
        rows.schema.set(rows.schema.get_field_index("bytes"), pa.field("bytes", pa.string())),
        rows.schema.set(rows.schema.get_field_index("embedding"), pa.field("embedding", pa.list_(pa.float32()))),
    ):
        with pytest.raises(ValueError, match="columns of another kind"):
            width_of(wrong)


@pytest.mark.parametrize("numbers", NUMBERS)
def test_a_column_holds_the_sets(numbers):
    sets = Compaction(4, numbers)(unit_sets())
    rows = pa.table({"items": items_column(sets)})
    for chosen in ([0, 1, 2], [2, 0]):
        again = sets_of(rows.take(chosen), 8)
        assert all(torch.equal(one, other[chosen]) for one, other in zip(again, sets, strict=True))


def test_sets_of_another_kind_or_changed_ones_are_refused():
    column = items_column(Compaction(4, "int8")(unit_sets()))
    names = [field.name for field in column.type]
    parts = {name: column.field(name) for name in names}
    changed = parts | {"scales": fixed_lists(matrix_of(parts["scales"]) + 1)}
    wide = parts | {"values": fixed_lists(matrix_of(parts["values"]).astype(np.int64))}
    for wrong, width, message in (
        (parts, 9, "sets of items of another kind"),
        (wide, 8, "sets of items of another kind"),
        (changed, 8, "sets of items have changed on the disk"),
    ):
        rows = pa.table({"items": pa.StructArray.from_arrays(list(wrong.values()), names)})
        with pytest.raises(ValueError, match=message):
            sets_of(rows, width)
    with pytest.raises(ValueError, match="sets of items of another kind"):
        sets_of(pa.table({"items": pa.array([1, 2])}), 8)
