"""Parquet files: images as paths, as bytes, or as both."""

from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from vse_gpo.data.sources.columns import Wanted
from vse_gpo.data.sources.parquet import read_parquet

JPEG, PNG = b"\xff\xd8\xff one", b"\x89PNG two"


@pytest.mark.parametrize(
    ("images", "names"),
    [
        ([{"bytes": JPEG, "path": "x/a.jpg"}, {"bytes": PNG, "path": "b.png"}], ["a.jpg", "b.png"]),
        ([{"bytes": JPEG, "path": None}, {"bytes": PNG, "path": "b.png"}], ["list-0000000.jpg", "b.png"]),
        ([JPEG, PNG], ["list-0000000.jpg", "list-0000001.png"]),
    ],
)
def test_images_get_the_names_of_their_paths_or_rows(images, names, tmp_path: Path):
    parquet.write_table(pa.table({"image": images, "caption": ["x", "y"]}), tmp_path / "list.parquet")
    part = read_parquet(tmp_path / "list.parquet", Wanted(), [])
    assert [one.file for _, one in part.found] == names
    for _ in range(2):
        assert list(part.images()) == list(zip(names, [JPEG, PNG], strict=True))


def test_a_column_of_paths_holds_no_images(tmp_path: Path):
    table = pa.table({"image": ["a.jpg", None], "caption": [["x", "y"], ["z"]], "split": ["train", "test"]})
    parquet.write_table(table, tmp_path / "list")
    part = read_parquet(tmp_path / "list", Wanted(), [])
    assert part.images is None
    assert [(place, one.file, one.caption, one.split) for place, one in part.found] == [
        ("list row 1", "a.jpg", "x", "train"),
        ("list row 1", "a.jpg", "y", "train"),
        ("list row 2", "", "z", "test"),
    ]
