"""Changes to a table: what is committed, what is kept for open searches, and what a full disk leaves."""

import resource
from contextlib import contextmanager

import lancedb
import pytest

from tests.helpers.photo_folder import unit, written
from tests.search.test_items import unit_sets
from vse_gpo.errors import VSEError
from vse_gpo.search.index import Index
from vse_gpo.search.items import Compaction
from vse_gpo.search.pictures import EmbeddedImages
from vse_gpo.search.records import pictures_of, record_batch
from vse_gpo.search.stored import Picture
from vse_gpo.search.table import ImageTable
from vse_gpo.search.writer import TableWriter


def rows(names: str, seed: int = 0):
    return record_batch(EmbeddedImages([Picture(name, 1, 2) for name in names], unit(len(names), seed=seed), {}))


def names_in(table: TableWriter) -> str:
    return "".join(picture.file for picture in pictures_of(table.read(["file", "bytes", "modified"])))


@contextmanager
def small_disk(size: int):
    """Files of at most so many bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_every_step_is_committed(tmp_path):
    table = TableWriter(tmp_path)
    assert (table.version, dict(table.about), len(table), names_in(table)) == (0, {}, 0, "")
    table.append(rows("abc"), {"model": "x"})
    table.append(rows("de"), {"model": "x"})
    assert names_in(TableWriter(tmp_path)) == "abcde"
    table.remove(table.read(["_rowid"])["_rowid"].to_pylist()[1:3], at_once=1)
    assert names_in(TableWriter(tmp_path)) == "ade"
    again = TableWriter(tmp_path)
    assert again.copied([2])["file"].to_pylist() == ["e"]
    again.compact()
    assert sorted(names_in(TableWriter(tmp_path))) == ["a", "d", "e"]
    assert dict(TableWriter(tmp_path).about) == {"model": "x"}
    assert [len(ImageTable(tmp_path, version)) for version in (1, 2)] == [3, 5]


def test_a_table_that_starts_over_keeps_the_rows_of_before_until_there_are_new_ones(tmp_path):
    table = TableWriter(tmp_path)
    table.append(rows("abc"), {})
    table.start_over()
    assert names_in(table) == ""
    assert names_in(TableWriter(tmp_path)) == "abc"
    table.append(rows("x"), {"items": "5"})
    assert names_in(table) == "x"
    assert dict(TableWriter(tmp_path).about) == {"items": "5"}
    assert len(ImageTable(tmp_path, 1)) == 3


def test_only_the_newest_version_and_the_one_that_is_searched_stay(tmp_path):
    table = TableWriter(tmp_path)
    for number, name in enumerate("abcd"):
        table.append(rows(name, number), {})
    cut = tmp_path / "images.lance" / "data" / "left_by_a_killed_command.lance"
    cut.write_bytes(b"cut")
    for kept, newest in ((2, 4), (4, 5)):
        table.keep(kept)
        table.keep(kept)
        table.clean()
        assert not cut.exists()
        assert [len(ImageTable(tmp_path, version)) for version in (kept, newest)] == [kept, newest]
        with pytest.raises(VSEError, match="a damaged index"):
            ImageTable(tmp_path, kept - 1)
        table.append(rows("e"), {})


def test_items_are_dropped_and_the_rest_stays(tmp_path):
    sets = Compaction(4, "int8")(unit_sets(images=3, width=16))
    pictures = [Picture(name, 1, 2) for name in "abc"]
    table = TableWriter(tmp_path)
    table.append(record_batch(EmbeddedImages(pictures, unit(3), {}, sets)), {"items": "4"})
    table.drop_items({"items": "none"})
    found = ImageTable(tmp_path, table.version)
    assert (found.has_items, len(found), found.item_bytes) == (False, 3, 0)
    assert dict(TableWriter(tmp_path).about) == {"items": "none"}
    assert ImageTable(tmp_path, 1).cells == sets.owners.shape[1]


def test_a_full_disk_is_one_line_and_nothing_is_lost(tmp_path):
    index = written(tmp_path, unit(30))
    table = TableWriter(tmp_path)
    with (
        small_disk(2000),
        pytest.raises(VSEError, match=r"cannot be written \(File too large .*what was there") as error,
    ):
        table.append(rows("abcdefghijklmnopqrstuvwxyz" * 3), {})
    assert "\n" not in str(error.value)
    assert len(TableWriter(tmp_path)) == len(Index.load(tmp_path)) == len(index) == 30
    table.append(rows("ab"), {})
    assert len(TableWriter(tmp_path)) == 32


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_lancedb_reads_the_table(tmp_path):
    written(tmp_path, unit(30))
    found = lancedb.connect(tmp_path).open_table("images")
    hits = found.search(unit(30)[4].numpy()).where("file > '2'").limit(3).to_list()
    assert hits[0]["file"] == "4.png"
