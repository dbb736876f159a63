"""vse-index and vse-search as a user starts them, in this process."""

import json
import sys
import warnings
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir

from tests.helpers.photo_folder import paint, small_model, touch
from vse_gpo import VSE, index
from vse_gpo.cli.run import config_folder
from vse_gpo.errors import VSEError
from vse_gpo.search import __main__ as search
from vse_gpo.search.index import Index
from vse_gpo.search.pictures import Pixels

FILES = [f"{folder}{number}.png" for folder in ("", "deep/") for number in range(4)]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "model"
    small_model().save_pretrained(folder)
    return folder


@pytest.fixture
def pictures(tmp_path):
    for seed, file in enumerate(FILES):
        paint(tmp_path / "pictures" / file, seed)
    return tmp_path / "pictures"


def run_index(*overrides: object) -> None:
    with initialize_config_dir(config_folder(), version_base="1.3"):
        index.index(compose("index", ["workers=0", "accelerator=cpu", "batch_size=2", *map(str, overrides)]))


@pytest.fixture
def made(pictures, model, tmp_path):
    run_index(f"images={pictures}", f"model={model}", f"out={tmp_path / 'index'}")
    return tmp_path / "index"


def vectors(folder: Path) -> dict[str, torch.Tensor]:
    found = Index.load(folder)
    rows = torch.from_numpy(found.embeddings().copy())
    return dict(zip([picture.file for picture in found.pictures], rows, strict=True))


def assert_encoded(folder: Path, pictures: Path, model: Path, files: list[str]) -> None:
    found = vectors(folder)
    assert sorted(found) == sorted(files)
    expected = VSE.from_pretrained(model).encode_images([pictures / file for file in found])
    torch.testing.assert_close(torch.stack([*found.values()]), expected, atol=1e-6, rtol=0)


def test_an_index_holds_every_picture(made, pictures, model, capsys):
    assert_encoded(made, pictures, model, FILES)
    assert {path.name for path in made.iterdir()} == {"index.json", "exact-1.faiss", "pictures-1.json"}


def test_an_update_embeds_new_and_changed_pictures_alone(made, pictures, model, capsys, monkeypatch):
    (pictures / FILES[0]).unlink()
    touch(paint(pictures / FILES[1], 90), 10**9)
    paint(pictures / "new.png", 91)
    (pictures / "broken.png").write_bytes(b"")
    seen = []
    embed = index.embed
    monkeypatch.setattr(index, "embed", lambda *args, **named: seen.append(args[2]) or embed(*args, **named))
    capsys.readouterr()
    run_index(f"images={pictures}", f"out={made}")  # the model is remembered
    assert [picture.file for picture in seen[0]] == sorted([FILES[1], "new.png", "broken.png"])
    assert_encoded(made, pictures, model, [*FILES[1:], "new.png"])
    printed = capsys.readouterr().out
    assert "8 pictures (1 new, 1 changed, 1 removed)" in printed
    assert "skipped broken.png: cannot be decoded (not an image, 0 bytes)" in printed
    before = {path: path.stat().st_mtime_ns for path in made.iterdir()}
    run_index(f"images={pictures}", f"out={made}")
    assert {path: path.stat().st_mtime_ns for path in made.iterdir()} == before
    assert "8 pictures (0 new, 0 changed, 0 removed)" in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["ivf", "hnsw"])
def test_an_index_becomes_another_kind(made, pictures, kind, capsys):
    run_index(f"images={pictures}", f"out={made}", f"kind={kind}")
    printed = capsys.readouterr().out
    assert "kind: Flat() → " in printed
    assert "recall@10 against exact search: " in printed
    assert Index.load(made).settings.recall > 50
    run_index(f"images={pictures}", f"out={made}")
    assert {path.name for path in made.iterdir()} == {"index.json", "exact-3.faiss", "pictures-3.json"}


def test_an_interrupted_index_goes_on_where_it_was(pictures, model, tmp_path, monkeypatch):
    monkeypatch.setattr(index, "SAVE_EVERY", 0.0)
    out, read = tmp_path / "index", Pixels.__getitem__

    def stopping(pixels, row):
        if row == 4:
            raise KeyboardInterrupt
        return read(pixels, row)

    monkeypatch.setattr(Pixels, "__getitem__", stopping)
    with pytest.raises(KeyboardInterrupt):
        run_index(f"images={pictures}", f"model={model}", f"out={out}")
    monkeypatch.setattr(Pixels, "__getitem__", read)
    assert not (out / "index.json").exists()
    assert len(list((out / "unfinished").iterdir())) == 2
    seen = []
    embed = index.embed
    monkeypatch.setattr(index, "embed", lambda *args, **named: seen.append(args[2]) or embed(*args, **named))
    run_index(f"images={pictures}", f"model={model}", f"out={out}")
    assert len(seen[0]) == len(FILES) - 4
    assert_encoded(out, pictures, model, FILES)
    assert not (out / "unfinished").exists()


def test_an_index_killed_while_it_was_written_is_written_again(pictures, model, tmp_path):
    out = tmp_path / "index"
    out.mkdir()
    for name in ("exact-1.faiss", ".approximate-1.faiss.part", "unfinished"):
        (out / name).mkdir() if name == "unfinished" else (out / name).write_bytes(b"cut")
    run_index(f"images={pictures}", f"model={model}", f"out={out}", "kind=hnsw")
    assert_encoded(out, pictures, model, FILES)
    run_index(f"images={pictures}", f"out={out}")


def test_what_cannot_become_an_index_gets_one_line(made, pictures, model, tmp_path):
    small_model(seed=1).save_pretrained(tmp_path / "other")
    (tmp_path / "none").mkdir()
    for overrides, line in (
        ([f"images={pictures}", f"out={made}", f"model={tmp_path / 'other'}"], "is another model"),
        ([f"images={pictures}", f"out={tmp_path}", f"model={model}"], "exists and is no index"),
        ([f"images={pictures}", f"out={tmp_path / 'new'}"], "model must be set"),
        ([f"images={tmp_path / 'no'}", f"out={tmp_path / 'new'}", f"model={model}"], "no such folder"),
        ([f"images={tmp_path / 'none'}", f"out={tmp_path / 'new'}", f"model={model}"], "no picture that can be read"),
        ([f"images={pictures}", f"out={made}", "kind=flatt"], "no such kind .did you mean flat"),
        ([f"images={pictures}", f"out={made}", "batch_size=0"], "batch_size=0 .* expected at least 1 picture"),
    ):
        with pytest.raises(VSEError, match=line):
            run_index(*overrides)
    assert not (tmp_path / "new").exists()


# search


@pytest.fixture
def find(made, monkeypatch, capsys):
    """Runs the command; what it found and what it said."""
    monkeypatch.chdir(made.parent)
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)

    def found(*arguments: str) -> tuple[list[dict[str, object]], str]:
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["vse-search", *arguments, f"index={made}", "json=true"])
        search.main()
        output = capsys.readouterr()
        return json.loads(output.out), output.err

    return found


def expected_hits(made: Path, embedding: torch.Tensor, top: int) -> list[str]:
    known = vectors(made)
    scores = torch.stack([*known.values()]) @ embedding[0]
    return [[*known][row] for row in scores.argsort(descending=True)[:top]]


@pytest.mark.parametrize(
    "query",
    [
        "a red circle",
        "it's a \"red\" circle",
        "${oc.env:HOME} and ${nothing}",
        "a=b is drawn, {on} [a] \\board\\",
        "ein grüner Kreis 🟢 赤い",
        "-5 degrees",
        "one,two,three",
        "null",
        "~circle",
        "$(touch x); `touch x` | > x",
        "top",
    ],
)  # fmt: skip
def test_a_query_is_taken_as_it_stands(query, find, made, model):
    hits, said = find(query, "top=3")
    assert said == ""
    encoder = VSE.from_pretrained(model)
    assert [hit["file"] for hit in hits] == expected_hits(made, encoder.encode_captions([query]), 3)
    assert [hit["rank"] for hit in hits] == [1, 2, 3]
    assert find(f"query={query}", "top=3") == (hits, "")


def test_after_two_dashes_everything_is_the_query():
    assert search.read_arguments(["index=x", "--", "e=mc2"]) == (search.Asked("e=mc2", None), ["index=x"])
    assert search.read_arguments(["--", "--help"]) == (search.Asked("--help", None), [])
    assert search.read_arguments(["--cfg", "job", "index=x"]) == (
        search.Asked(None, None),
        ["--cfg", "job", "index=x"],
    )
    asked, left = search.read_arguments(["index=x", "image=a b (1), c.png", "+hydra.verbose=true"])
    assert (asked.image, left) == ("a b (1), c.png", ["index=x", "+hydra.verbose=true"])


@pytest.mark.parametrize(
    "arguments", [["a", "dog"], ["a dog", "query=two"], ["a dog", "image=x.png"], ["a", "--", "b"]]
)
def test_two_queries_are_refused(arguments):
    with pytest.raises(VSEError, match=r"2 queries, 'a.*quote one of many words"):
        search.read_arguments(arguments)


def test_a_picture_finds_itself(find, pictures):
    hits, _ = find(f"image={pictures / FILES[5]}", "top=100")
    assert hits[0]["file"] == FILES[5]
    assert hits[0]["score"] == pytest.approx(1, abs=1e-5)
    assert len(hits) == len(FILES)


def test_the_table_shows_what_was_found(made, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["vse-search", "[bold]a [red] circle", f"index={made}", "top=2"])
    search.main()
    printed = capsys.readouterr().out
    assert "[bold]a [red] circle" in printed
    assert sum(file in printed for file in FILES) >= 2


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["index=no"], "nothing to look for"),
        (["", "index=no"], "nothing to look for"),
        (["\udcff", "index=no"], "the query is not UTF-8"),
        (["a dog", "index=no"], "index=no: no index (no such file or directory); python -m vse_gpo.index makes one"),
        (["a dog", "idnex=no", "index=x"], "idnex: no such setting (did you mean index?)"),
        (["a dog"], "index must be set; add index=…"),
        (["a dog", "b", "index=x"], "2 queries, 'a dog' and 'b', expected one; quote one of many words"),
    ],
)
def test_errors_are_one_line(arguments, line, monkeypatch, capfd, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
    monkeypatch.setattr(sys, "argv", ["vse-search", *arguments])
    with pytest.raises(SystemExit) as exit:
        search.main()
    said = capfd.readouterr().err.strip() or str(exit.value.code)
    assert said.startswith(f"error: {line}")
    assert "\n" not in said
    assert list(tmp_path.iterdir()) == []


def test_a_model_that_has_changed_is_refused(made, monkeypatch, tmp_path):
    known = Index.load(made)
    small_model(seed=1).save_pretrained(tmp_path / "other")
    with pytest.raises(VSEError, match="is another model"):
        known.open_model(str(tmp_path / "other"))


def test_a_long_query_is_cut_with_one_line(capsys, monkeypatch):
    model = small_model()
    prepare = model.prepare_captions

    def cutting(captions):
        warnings.warn("captions are cut to 512 tokens, first 'a…'…", stacklevel=2)
        return prepare(captions)

    model.prepare_captions = cutting
    assert search.embed_query(model, search.Asked("a red circle", None)).shape == (1, 6)
    assert capsys.readouterr().err == "warning: captions are cut to 512 tokens, first 'a…'…\n"
