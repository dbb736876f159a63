"""vse-index as a user starts it, in this process: every picture once, and only new ones anew."""

from pathlib import Path

import pytest
import torch

from tests.helpers.held import holder
from tests.helpers.photo_folder import paint, small_model, touch
from tests.helpers.photo_index import FILES, item_sets, run_index, vectors
from tests.helpers.tiny_duals import dual_folder
from vse_gpo import VSE
from vse_gpo.errors import VSEError
from vse_gpo.search import indexing, updating
from vse_gpo.search.index import Index
from vse_gpo.search.indexing import DEFAULT_MODEL
from vse_gpo.search.items import Compaction
from vse_gpo.search.pictures import FilePixels
from vse_gpo.search.writer import TableWriter


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "model"
    small_model().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def comparing(tmp_path_factory):
    """A model with an interaction."""
    folder = tmp_path_factory.mktemp("models") / "comparing"
    small_model(interaction="MaxSim").save_pretrained(folder)
    return folder


@pytest.fixture
def made(pictures, model, tmp_path):
    run_index(f"images={pictures}", f"model={model}", f"out={tmp_path / 'index'}")
    return tmp_path / "index"


def assert_encoded(folder: Path, pictures: Path, model: Path, files: list[str]) -> None:
    found = vectors(folder)
    assert sorted(found) == sorted(files)
    expected = VSE.from_pretrained(model).encode_images([pictures / file for file in found])
    torch.testing.assert_close(torch.stack([*found.values()]), expected, atol=1e-6, rtol=0)


def assert_equal(some: dict[str, torch.Tensor], others: dict[str, torch.Tensor]) -> None:
    assert some.keys() == others.keys()
    assert all(torch.equal(some[file], others[file]) for file in some)


def test_an_index_holds_every_picture(made, pictures, model, capsys):
    assert_encoded(made, pictures, model, FILES)
    assert {path.name for path in made.iterdir()} == {"index.json", "images.lance", "indexing.log"}


def test_two_processes_embed_what_one_does(pictures, comparing, tmp_path, capsys):
    (pictures / "broken.png").write_bytes(b"")
    for devices in (1, 2):
        out = tmp_path / f"on{devices}"
        run_index(f"images={pictures}", f"model={comparing}", f"out={out}", f"devices={devices}", "items=5")
        assert "skipped broken.png: cannot be decoded (not an image, 0 bytes)" in capsys.readouterr().out
    alone, both = vectors(tmp_path / "on1"), vectors(tmp_path / "on2")
    assert_equal(alone, both)
    assert item_sets(tmp_path / "on1") == item_sets(tmp_path / "on2")


def test_an_update_embeds_new_and_changed_pictures_alone(made, pictures, model, capsys, monkeypatch):
    (pictures / FILES[0]).unlink()
    touch(paint(pictures / FILES[1], 90), 10**9)
    paint(pictures / "new.png", 91)
    (pictures / "broken.png").write_bytes(b"")
    seen = []
    embed = updating.embed_new
    monkeypatch.setattr(updating, "embed_new", lambda *args, **named: seen.append(args[2]) or embed(*args, **named))
    capsys.readouterr()
    run_index(f"images={pictures}", f"out={made}")  # the model is remembered
    assert [picture.file for picture in seen[0]] == sorted([FILES[1], "new.png", "broken.png"])
    assert_encoded(made, pictures, model, [*FILES[1:], "new.png"])
    printed = capsys.readouterr().out
    assert "8 images (1 new, 1 changed, 0 renamed, 1 removed)" in printed
    assert "skipped broken.png: cannot be decoded (not an image, 0 bytes)" in printed
    before = {path: path.stat().st_mtime_ns for path in made.rglob("*") if path.is_file()}
    run_index(f"images={pictures}", f"out={made}")
    assert {path: path.stat().st_mtime_ns for path in made.rglob("*") if path.is_file()} == before
    assert "8 images (0 new, 0 changed, 0 renamed, 0 removed)" in capsys.readouterr().out


def test_an_index_becomes_another_kind(made, pictures, capsys):
    run_index(f"images={pictures}", f"out={made}", "kind=ivf")
    printed = capsys.readouterr().out
    assert "kind: Flat() → " in printed
    assert "recall@10 against exact search: " in printed
    assert Index.load(made).settings.recall > 50
    run_index(f"images={pictures}", f"out={made}")
    assert Index.load(made).settings.recall is None


def interrupt(*arguments: str) -> None:
    """Index as ``run_index`` does, up to the fifth image."""
    read = FilePixels.__getitem__

    def stopping(pixels, row):
        if row == 4:
            raise KeyboardInterrupt
        return read(pixels, row)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FilePixels, "__getitem__", stopping)
        with pytest.raises(KeyboardInterrupt):
            run_index(*arguments)


def test_an_interrupted_index_goes_on_where_it_was(pictures, model, tmp_path, monkeypatch):
    monkeypatch.setattr(updating, "SAVE_EVERY", 0.0)
    out = tmp_path / "index"
    interrupt(f"images={pictures}", f"model={model}", f"out={out}")
    assert not (out / "index.json").exists()
    assert len(TableWriter(out)) == 4
    seen = []
    embed = updating.embed_new
    monkeypatch.setattr(updating, "embed_new", lambda *args, **named: seen.append(args[2]) or embed(*args, **named))
    run_index(f"images={pictures}", f"model={model}", f"out={out}")
    assert len(seen[0]) == len(FILES) - 4
    assert_encoded(out, pictures, model, FILES)


def test_an_index_killed_while_it_was_written_is_written_again(pictures, model, tmp_path):
    out = tmp_path / "index"
    out.mkdir()
    (out / "images.lance" / "data").mkdir(parents=True)
    for name in ("images.lance/data/cut.lance", ".index.json.part", "indexing.log"):
        (out / name).write_bytes(b"cut")
    run_index(f"images={pictures}", f"model={model}", f"out={out}", "kind=ivf")
    assert_encoded(out, pictures, model, FILES)
    run_index(f"images={pictures}", f"out={out}")


def test_an_index_that_another_process_makes_is_left_to_it(made, pictures):
    before = {path: path.read_bytes() for path in made.rglob("*") if path.is_file()}
    with holder(made), pytest.raises(VSEError, match="is at work in it; wait for its end, or name another folder"):
        run_index(f"images={pictures}", f"out={made}", "kind=ivf")
    (made / ".lock").unlink()
    assert {path: path.read_bytes() for path in made.rglob("*") if path.is_file()} == before


def test_what_cannot_become_an_index_gets_one_line(made, pictures, model, tmp_path):
    small_model(seed=1).save_pretrained(tmp_path / "other")
    (tmp_path / "none").mkdir()
    for overrides, line in (
        ([f"images={pictures}", f"out={made}", f"model={tmp_path / 'other'}"], "is another model"),
        ([f"images={pictures}", f"out={tmp_path}", f"model={model}"], "exists and is no index"),
        (
            [f"images={pictures}", f"out={tmp_path / 'new'}"],
            f"model={DEFAULT_MODEL}: neither a folder nor",
        ),  # no network
        ([f"images={tmp_path / 'no'}", f"out={tmp_path / 'new'}", f"model={model}"], "no such folder"),
        ([f"images={tmp_path / 'none'}", f"out={tmp_path / 'new'}", f"model={model}"], "no image that can be read"),
        ([f"images={pictures}", f"out={made}", "kind=flatt"], "no such kind .did you mean flat"),
    ):
        with pytest.raises(VSEError, match=line):
            run_index(*overrides)
    assert not (tmp_path / "new").exists()


def test_photographs_are_indexed_and_searched_without_naming_a_model(pictures, capsys, monkeypatch, tmp_path):
    dual = dual_folder("clip", tmp_path / "dual")
    monkeypatch.setattr(indexing, "DEFAULT_MODEL", str(dual))
    run_index(f"images={pictures}", f"out={tmp_path / 'index'}")
    assert f"model: {dual}, as none was named; model=… takes any other" in capsys.readouterr().out
    assert_encoded(tmp_path / "index", pictures, dual, FILES)
    found = Index.load(tmp_path / "index")
    model = found.open_model()
    assert found.search(model.encode_images(pictures / FILES[3]), 1)[1] == [[FILES[3]]]
    assert len(found.search(model.encode_captions("a red car"), 3)[1][0]) == 3


def test_a_model_that_has_changed_is_refused(made, monkeypatch, tmp_path):
    known = Index.load(made)
    small_model(seed=1).save_pretrained(tmp_path / "other")
    with pytest.raises(VSEError, match="is another model"):
        known.open_model(str(tmp_path / "other"))


# items


def test_items_are_stored_with_the_images(pictures, comparing, tmp_path, capsys):
    run_index(f"images={pictures}", f"model={comparing}", f"out={tmp_path / 'index'}", "items=5")
    assert "items: 5 of each image, int8; 66 bytes an image, beside 24 of its embedding" in capsys.readouterr().out
    found = Index.load(tmp_path / "index")
    model = VSE.from_pretrained(comparing)
    images = model.prepare_images([found.path(file) for file in found.names.to_pylist()])
    with torch.inference_mode():
        expected = Compaction(5, "int8")(model.image_encoder.output(images, with_items=True).items)
    sets = found.item_sets(range(len(FILES)))
    torch.testing.assert_close(sets.features().values, expected.features().values, atol=0.02, rtol=0)
    assert torch.equal(sets.owners, expected.owners)


def test_an_interrupted_index_has_the_items_of_one_that_was_not(pictures, comparing, tmp_path, monkeypatch):
    monkeypatch.setattr(updating, "SAVE_EVERY", 0.0)
    run_index(f"images={pictures}", f"model={comparing}", f"out={tmp_path / 'whole'}", "items=5")
    out = tmp_path / "index"
    interrupt(f"images={pictures}", f"model={comparing}", f"out={out}", "items=5")
    with pytest.raises(VSEError, match=r"left by an unfinished index with other items .*; resume with the same items="):
        run_index(f"images={pictures}", f"model={comparing}", f"out={out}", "items=6")
    run_index(f"images={pictures}", f"model={comparing}", f"out={out}", "items=5")
    assert item_sets(out) == item_sets(tmp_path / "whole")
    assert_equal(vectors(out), vectors(tmp_path / "whole"))


def test_an_update_keeps_the_items_or_makes_others(pictures, comparing, tmp_path, capsys, monkeypatch):
    out, seen, embed = tmp_path / "index", [], updating.embed_new
    monkeypatch.setattr(updating, "embed_new", lambda *args: seen.append(len(args[2])) or embed(*args))
    for overrides, embedded, items, said in (
        ([f"model={comparing}", "items=5", "item_dtype=float16"], 8, (5, "float16"), "items: 5 of each image, float16"),
        ([], 1, (5, "float16"), "items: 5 of each image, float16"),
        (["items=null"], 9, (None, "float16"), "items: 5 of each image, float16 → all of each image, float16"),
        (["items=0"], 0, None, "items: all of each image, float16 → none"),
        ([], 0, None, "9 images (0 new"),
        (["items=16"], 9, (16, "int8"), "items: none → 16 of each image, int8"),
    ):
        run_index(f"images={pictures}", f"out={out}", *overrides)
        found = Index.load(out)
        assert seen[-1] == embedded
        assert found.settings.compaction == (None if items is None else Compaction(*items))
        assert found.has_items == (items is not None)
        assert said in capsys.readouterr().out
        if not (pictures / "another.png").exists():
            paint(pictures / "another.png", 50)


def test_items_that_cannot_be_stored_get_one_line(pictures, model, comparing, tmp_path):
    for overrides, line in (
        ([f"model={model}", "items=16"], "items=16 item_dtype=auto: the model has no interaction"),
        ([f"model={comparing}", "item_dtype=int4"], "item_dtype=int4.*, expected int8, float16, float32"),
    ):
        with pytest.raises(VSEError, match=line):
            run_index(f"images={pictures}", f"out={tmp_path / 'new'}", *overrides)
    assert not (tmp_path / "new").exists()
