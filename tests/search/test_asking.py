"""vse-search as a user starts it, in this process."""

import json
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.helpers.photo_folder import paint, small_model
from tests.helpers.photo_index import FILES, run_index, vectors
from vse_gpo import VSE
from vse_gpo.cli.arguments import read_arguments
from vse_gpo.errors import VSEError
from vse_gpo.search import __main__ as search
from vse_gpo.search.asking import encode_query, print_table
from vse_gpo.search.index import Hit, Index
from vse_gpo.search.queries import encode_text
from vse_gpo.search.reranking import find as find_images

Found = tuple[list[dict[str, object]], str]


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "model"
    small_model().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def made(model, tmp_path_factory) -> Path:
    """An index, beside the pictures that it is of."""
    home = tmp_path_factory.mktemp("home")
    for seed, file in enumerate(FILES):
        paint(home / "pictures" / file, seed)
    run_index(f"images={home / 'pictures'}", f"model={model}", f"out={home / 'index'}")
    return home / "index"


@pytest.fixture
def find(made, monkeypatch, capsys) -> Callable[..., Found]:
    """Runs the command; what it found and what it said."""
    monkeypatch.chdir(made.parent)
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)

    def found(*arguments: str) -> Found:
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


def typed(*arguments: str) -> tuple[list[str], dict[str, object]]:
    """What the command makes of its arguments."""
    return read_arguments(arguments, config_name="search", words=("query",), verbatim=("image",))


def test_after_two_dashes_everything_is_the_query():
    assert typed("index=x", "--", "e=mc2") == (["index=x"], {"query": "e=mc2"})
    assert typed("--", "--help") == ([], {"query": "--help"})
    assert typed("--cfg", "job", "index=x") == (["--cfg", "job", "index=x"], {})
    left, given = typed("index=x", "image=a b (1), c.png", "+hydra.verbose=true")
    assert (left, given) == (["index=x", "+hydra.verbose=true"], {"image": "a b (1), c.png"})


@pytest.mark.parametrize("arguments", [["a", "dog"], ["a dog", "query=two"], ["a", "--", "b"]])
def test_two_queries_are_refused(arguments):
    with pytest.raises(VSEError, match=r"one word too many, expected query; quote a text of many words"):
        typed(*arguments)


def test_a_picture_finds_itself(find, made):
    hits, _ = find(f"image={made.parent / 'pictures' / FILES[5]}", "top=100")
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
        (["a dog", "b", "index=x"], "'b': one word too many, expected query; quote a text of many words"),
        (["a dog", "image=b.png", "index=x"], "2 queries, 'a dog' and image=b.png, expected one"),
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


def test_a_long_query_is_cut_with_one_line(capsys, monkeypatch):
    model = small_model()
    prepare = model.prepare_captions

    def cutting(captions):
        warnings.warn("captions are cut to 512 tokens, first 'a…'…", stacklevel=2)
        return prepare(captions)

    model.prepare_captions = cutting
    assert encode_query(model, "a red circle", None).embeddings.shape == (1, 6)
    assert capsys.readouterr().err == "warning: captions are cut to 512 tokens, first 'a…'…\n"


def test_control_characters_reach_no_terminal(capsys):
    print_table("\x1b[31mred", [Hit(0, "a\x1b[2Jb.png", 0.5)])
    printed = capsys.readouterr().out
    assert "\x1b" not in printed
    assert "a\\x1b[2Jb.png" in printed


def test_the_first_images_are_re_ranked_by_their_items(monkeypatch, capsys, tmp_path):
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
    for seed, file in enumerate(FILES):
        paint(tmp_path / "pictures" / file, seed)
    model = small_model(interaction="MaxSim")
    model.save_pretrained(tmp_path / "model")
    images = f"images={tmp_path / 'pictures'}"
    run_index(images, f"model={tmp_path / 'model'}", f"out={tmp_path / 'index'}", "items=4")
    run_index(images, f"model={tmp_path / 'model'}", f"out={tmp_path / 'plain'}", "items=0")

    def searched(*arguments: str, index: str = "index") -> tuple[object, str]:
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["vse-search", *arguments, f"index={tmp_path / index}", "json=true"])
        try:
            search.main()
        except SystemExit:
            return None, capsys.readouterr().err.strip()
        output = capsys.readouterr()
        return json.loads(output.out), output.err

    index = Index.load(tmp_path / "index")
    query, _ = encode_text(model, "a red circle")
    expected = find_images(index, model, query, top=3, rerank=5)
    hits, _ = searched("a red circle", "top=3", "rerank=5")
    assert [(hit["file"], hit["score"]) for hit in hits] == [(hit.file, pytest.approx(hit.score)) for hit in expected]
    assert searched("a red circle", "rerank=auto")[0] == searched("a red circle", "rerank=8")[0]
    assert searched(f"image={tmp_path / 'pictures' / FILES[2]}", "rerank=8")[0][0]["file"] == FILES[2]
    for arguments, place, line in (
        (["rerank=9"], "index", "rerank=9, but the index holds 8 images; set it to 8 at most"),
        (["rerank=5"], "index", "rerank=5, but top=10 images are shown; expected as many at least"),
        (["rerank=-1"], "index", "rerank=-1, expected a whole number from 1 to 2147483647 or auto"),
        (["rerank=8"], "plain", "rerank=8: the index has no sets of items; python -m vse_gpo.index images="),
    ):
        found, said = searched("a red circle", *arguments, index=place)
        assert found is None
        assert said.startswith(f"error: {line}")
        assert "\n" not in said
