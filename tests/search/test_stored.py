"""The settings of an index: what is read, and what is refused."""

import json

import pytest

from tests.helpers.photo_folder import unit, written
from vse_gpo.errors import VSEError
from vse_gpo.search.index import Index
from vse_gpo.search.items import Compaction
from vse_gpo.search.stored import is_index, leads_out, read_settings, refuse_former, write_settings


@pytest.fixture
def folder(tmp_path):
    written(tmp_path / "index", unit(3))
    return tmp_path / "index"


def change(folder, **settings) -> None:
    path = folder / "index.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))


def test_settings_are_read_as_they_were_written(folder):
    settings = read_settings(folder)
    assert is_index(folder)
    assert settings.compaction is None
    write_settings(folder, settings)
    assert read_settings(folder) == settings
    change(folder, items={"most": 4, "numbers": "int8"})
    assert read_settings(folder).compaction == Compaction(4, "int8")


@pytest.mark.parametrize("items", [3, {"most": 16}, {"most": 16, "numbers": "int4"}, {"most": 0, "numbers": "int8"}])
def test_settings_of_other_items_are_refused(items, folder):
    change(folder, items=items)
    with pytest.raises(VSEError, match="no index"):
        read_settings(folder)


@pytest.mark.parametrize(
    "settings",
    [{"version": "../1"}, {"version": 0}, {"version": 99}, {"images": 3}, {"more": 1}, {"approximate": 3},
     {"approximate": {"links": 3}}, {"items": {"most": 4, "numbers": "int8"}}],
)  # fmt: skip
def test_settings_of_another_kind_are_refused(settings, folder):
    change(folder, **settings)
    with pytest.raises(VSEError, match=r"python -m vse_gpo\.index makes") as error:
        Index.load(folder)
    assert "\n" not in str(error.value)


def test_an_index_of_faiss_is_refused_with_the_line_that_builds_it_again(tmp_path):
    (tmp_path / "exact-1.faiss").write_bytes(b"vectors")
    known = {"images": "/my photos", "model": "m.ckpt", "tokenizer": None, "generation": 1}
    (tmp_path / "index.json").write_text(json.dumps(known))
    line = r"with FAISS, .*: python -m vse_gpo\.index images='/my photos' model=m\.ckpt out=NEW_FOLDER"
    with pytest.raises(VSEError, match=line):
        Index.load(tmp_path)
    with pytest.raises(VSEError, match="with FAISS"):
        refuse_former(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"exact-1.faiss", "index.json"}


def test_names_with_dots_are_no_way_out():
    assert not any(leads_out(file) for file in ("a..b.png", "...png", "a/b c/ü.png", "-.png"))
    assert all(leads_out(file) for file in ("../a.png", "/a.png", "a/../../b.png", "", ".", "a/", "a\0.png"))
