"""What is read of a table, and Lance's errors in one line."""

import pytest
import torch

from tests.helpers.photo_folder import unit, written
from tests.search.test_items import unit_sets
from vse_gpo.errors import VSEError
from vse_gpo.search.index import Index
from vse_gpo.search.items import Compaction
from vse_gpo.search.kinds import InvertedLists
from vse_gpo.search.table import damage_told, lance_reason

IMAGES, WIDTH = 7, 16


def test_rows_are_places_in_a_version(tmp_path):
    table = written(tmp_path, unit(IMAGES)).table
    assert (len(table), table.width, table.has_items) == (IMAGES, WIDTH, False)
    assert table.read(["file"], rows=[5, 0])["file"].to_pylist() == ["5.png", "0.png"]
    assert table.read(["_rowoffset"], where="file >= '5'")["_rowoffset"].to_pylist() == [5, 6]
    for where, rows in ((None, range(IMAGES)), ("file < '2'", [0, 1])):
        numbers, embeddings = map(torch.cat, zip(*table.embeddings(where), strict=True))
        assert numbers.tolist() == [*rows]
        assert torch.equal(embeddings, unit(IMAGES)[[*rows]])


def test_candidates_meet_the_condition(tmp_path):
    table = written(tmp_path, unit(40), InvertedLists(lists=4)).table
    for where, count in ((None, 9), ("file < '2'", 9), ("file < '11'", 3)):
        rows = table.candidates(unit(1)[0], 9, probes=4, where=where)
        assert len(set(rows.tolist())) == count
        assert torch.equal(table.embeddings_of(rows), unit(40)[rows])


def test_an_index_gives_the_sets_of_any_images(tmp_path):
    sets = Compaction(4, "int8")(unit_sets(images=IMAGES, width=WIDTH))
    index = written(tmp_path, unit(IMAGES), sets=sets)
    for rows in ([3], [6, 0, 2]):
        assert all(torch.equal(one, all_of[rows]) for one, all_of in zip(index.item_sets(rows), sets, strict=True))
    assert index.table.item_bytes == 4 * WIDTH + 4 * 4 + 20
    [path] = (tmp_path / "images.lance" / "data").iterdir()
    content = path.read_bytes()
    scales = sets.scales[2].numpy().tobytes()
    assert content.count(scales) == 1
    path.write_bytes(content.replace(scales, bytes([scales[0] ^ 4]) + scales[1:]))
    index = Index.load(tmp_path)
    assert torch.equal(index.item_sets([3]).scales, sets.scales[[3]])
    with pytest.raises(VSEError, match=r"a damaged index .sets of items have changed on the disk.; python -m"):
        index.item_sets([2, 3])


def test_a_file_that_is_cut_or_gone_is_told_before_a_search(tmp_path):
    written(tmp_path, unit(IMAGES))
    [path] = (tmp_path / "images.lance" / "data").iterdir()
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(VSEError, match=r"a damaged index .a file of [\d,]+ bytes, expected [\d,]+.; python -m"):
        Index.load(tmp_path)
    path.unlink()
    with pytest.raises(VSEError, match=r"a damaged index .*; python -m"):
        Index.load(tmp_path)


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ("LanceError(IO): File too large (os error 27), /home/x/lance/rust/a.rs:190:9", "File too large (os error 27)"),
        (
            "External error: Not found: a/b.lance, /home/x/local.rs:273:40, /home/x/dataset.rs:765:44",
            "Not found: a/b.lance",
        ),
        ("Invalid user input: Schema error: No field named x., /home/x/scanner.rs:839:33\nmore", "No field named x"),
        ("plain", "plain"),
    ],
)
def test_reasons_are_without_places_in_the_source(message, reason, tmp_path):
    assert lance_reason(OSError(message)) == reason
    with pytest.raises(VSEError) as error, damage_told(tmp_path):
        raise OSError(message)
    assert (
        str(error.value)
        == f"{tmp_path}: a damaged index ({reason}); python -m vse_gpo.index makes it again in a new folder"
    )
