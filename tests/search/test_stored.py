"""The files of an index, with and without sets of items."""

import json

import numpy as np
import pytest
import torch
from vse_gpo.search.parts import Embedding

from tests.helpers.photo_folder import unit, written
from tests.search.test_items import unit_sets
from vse_gpo.errors import VSEError
from vse_gpo.search.index import Index
from vse_gpo.search.items import Compaction, records_of
from vse_gpo.search.stored import read_settings, write_records

IMAGES, WIDTH = 7, 16


@pytest.fixture
def folder(tmp_path):
    """Of an index with sets."""
    sets = Compaction(4, "int8")(unit_sets(images=IMAGES, width=WIDTH))
    written(tmp_path / "index", unit(IMAGES), records=records_of(sets))
    return tmp_path / "index"


def test_records_in_blocks_are_one_array(tmp_path):
    records = records_of(Compaction(4, "int8")(unit_sets(images=IMAGES)))
    write_records(tmp_path / "items.npy", np.split(records, [2, 5]), IMAGES)
    assert (np.load(tmp_path / "items.npy", allow_pickle=False) == records).all()


def test_an_index_gives_the_sets_of_any_images(folder):
    found = Index.load(folder)
    expected = Compaction(4, "int8")(unit_sets(images=IMAGES, width=WIDTH))
    for rows in ([3], [6, 0, 2]):
        assert all(torch.equal(one, all_of[rows]) for one, all_of in zip(found.item_sets(rows), expected, strict=True))
    assert Embedding(found.embeddings(), found.records, 0).sizes() == (4 * WIDTH + 4 * 4 + 20, 4 * WIDTH)


@pytest.mark.parametrize("content", [None, b"", b"\x93NUMPY", b"\x80\x04\x95 pickle", b"flipped"])
def test_damaged_sets_give_one_line(content, folder):
    path = folder / "items-1.npy"
    whole = bytearray(path.read_bytes())
    whole[-3] ^= 4
    path.unlink()
    if content is not None:
        path.write_bytes(whole if content == b"flipped" else content)
    with pytest.raises(VSEError, match="a damaged index") as error:
        Index.load(folder)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("images", "width"), [(IMAGES + 1, WIDTH), (IMAGES, WIDTH + 1)])
def test_sets_and_embeddings_must_fit_each_other(images, width, folder):
    others = records_of(Compaction(4, "int8")(unit_sets(images=images, width=width)))
    write_records(folder / "items-1.npy", [others], images)
    path = folder / "index.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"checksums": None}))  # as someone else may write them
    with pytest.raises(VSEError, match=r"a damaged index .sets of items of another kind"):
        Index.load(folder)


@pytest.mark.parametrize("items", [3, {"most": 16}, {"most": 16, "numbers": "int4"}, {"most": 0, "numbers": "int8"}])
def test_settings_of_other_items_are_refused(items, folder):
    path = folder / "index.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"items": items}))
    with pytest.raises(VSEError, match="no index"):
        read_settings(folder)


def test_an_index_of_an_earlier_version_has_no_sets(folder):
    path = folder / "index.json"
    settings = json.loads(path.read_text())
    del settings["items"], settings["checksums"]["items"]
    path.write_text(json.dumps(settings))
    found = Index.load(folder)
    assert found.settings.compaction is None
    assert found.records is None
    assert len(found.search(unit(1), 3)[1][0]) == 3
