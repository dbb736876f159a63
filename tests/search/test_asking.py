"""vse-search as a user starts it, in this process."""

import io
import json
import subprocess
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
from vse_gpo.search.asking import Asker
from vse_gpo.search.combining import combine_parts
from vse_gpo.search.filters import filter_sql
from vse_gpo.search.index import Index
from vse_gpo.search.parts import Part
from vse_gpo.search.queries import encode_parts, encode_text
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
        return json.loads(output.out)["hits"], output.err

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
    return read_arguments(arguments, config_name="search", words=("query",), verbatim=search.VERBATIM)


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
    monkeypatch.setattr(sys, "argv", ["vse-search", "[bold]a [red] circle", f"index={made}", "top=2", "nearest=true"])
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
        (["a dog", "stdin=true", "index=x"], "stdin=true and query=a dog, expected one of them"),
        (["plus=a dog", "interactive=true", "index=x"], "interactive=true and plus=a dog, expected one of them"),
        (["interactive=true", "stdin=true", "index=x"], "interactive=true and stdin=true, expected one of them"),
        (["a dog", "where=widht > 3", "index=no"], "where=: no column widht (did you mean width?), expected one of"),
        (["a dog", "near=here", "index=no"], "near=here, expected latitude,longitude"),
        (["a dog", "minus=\udcff", "index=no"], "the query is not UTF-8"),
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


def test_a_long_query_is_cut_with_one_line():
    model = small_model()
    prepare = model.prepare_captions

    def cutting(captions):
        warnings.warn("captions are cut to 512 tokens, first 'a…'…", stacklevel=2)
        return prepare(captions)

    model.prepare_captions = cutting
    query, remarks = encode_parts(model, [Part("a red circle")])
    assert query.embeddings.shape == (1, 6)
    assert remarks == ["captions are cut to 512 tokens, first 'a…'…"]


@pytest.fixture
def asker(made, model) -> Asker:
    return Asker(Index.load(made), VSE.from_pretrained(model))


def test_texts_and_images_are_added_and_subtracted(find, made, model):
    photo = made.parent / "pictures" / FILES[5]
    hits, said = find("a red circle", "minus=0.5 * a star; hearts", f"plus_image=2*{photo}", "top=3")
    encoder = VSE.from_pretrained(model)
    texts = encoder.encode_captions(["a red circle", "a star", "hearts"])
    query = combine_parts(torch.cat([texts, encoder.encode_images(photo)]), [1.0, -0.5, -1.0, 2.0])
    assert ([hit["file"] for hit in hits], said) == (expected_hits(made, query, 3), "")
    assert find(f"image={photo}", "plus=a red circle", "top=3") == find("a red circle", f"image={photo}", "top=3")


def test_only_images_that_meet_the_conditions_are_found(find, made):
    everything, _ = find("a red circle", "top=100")
    hits, _ = find("a red circle", "top=100", "folder=deep", "where=width = 40 and date is null")
    assert hits == [
        hit | {"rank": rank} for rank, hit in enumerate([one for one in everything if "deep/" in one["file"]], 1)
    ]
    assert find("a red circle", "after=2023", "near=48.2,16.4") == ([], "")
    assert find(f"image={made.parent / 'pictures' / FILES[5]}", "camera=x") == ([], "")


def test_equal_scores_are_ordered_by_name_whatever_their_number(model, monkeypatch, tmp_path, capsys):
    for file in (names := ["b.png", "a.png", "deep/a.png", "ä.png", "c.png"]):
        paint(tmp_path / "pictures" / file, 0)
    run_index(f"images={tmp_path / 'pictures'}", f"model={model}", f"out={tmp_path / 'index'}")
    capsys.readouterr()
    for top in range(1, 6):
        monkeypatch.setattr(
            sys, "argv", ["vse-search", "a star", f"index={tmp_path / 'index'}", "json=true", f"top={top}"]
        )
        search.main()
        hits = json.loads(capsys.readouterr().out)["hits"]
        assert [hit["file"] for hit in hits] == sorted(names)[:top]


def test_where_nothing_fits_one_line_says_so_and_the_nearest_can_be_shown(asker, made, monkeypatch, capsys):
    asker.level = 2.0
    found = asker.ask([Part("a red circle")], top=3)
    assert (found.judgement.fits, len(found.hits)) == (False, 3)
    asker.level = -2.0
    assert asker.ask([Part("a red circle")], top=3).judgement.fits is True
    assert asker.ask([Part("a red circle"), Part("a star")], top=3).judgement.fits is None
    for option, lines in (([], 1), (["nearest=true"], 9)):
        monkeypatch.setattr(sys, "argv", ["vse-search", "a red dog", f"index={made}", "top=3", *option])
        search.main()
        printed = capsys.readouterr().out.splitlines()
        assert printed[0].startswith("nothing fits: the model does not know dog; ")
        assert len(printed) == lines
    monkeypatch.setattr(sys, "argv", ["vse-search", "a red dog", f"index={made}", "json=true"])
    search.main()
    answer = json.loads(capsys.readouterr().out)
    assert (answer["fits"], answer["reason"], len(answer["hits"])) == (False, "the model does not know dog", len(FILES))


def test_lines_of_the_input_are_asked_for_and_answered(made, monkeypatch, capsys):
    for option, expected in (("stdin=true", 2), ("interactive=true", 0)):
        monkeypatch.setattr(sys, "stdin", io.StringIO("a red circle\na star\n"))
        monkeypatch.setattr(sys, "argv", ["vse-search", option, f"index={made}", "top=1"])
        search.main()
        printed = capsys.readouterr()
        assert printed.err == ""
        assert printed.out.count('"fits"') == expected
    assert printed.out.count("> ") == 3


def test_a_line_that_cannot_be_answered_holds_up_no_other(made, monkeypatch, capsys):
    photo = made.parent / "pictures" / FILES[2]
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"a red circle\nimage={photo}\nimage=no.png\n\udcff\na star"))
    monkeypatch.setattr(sys, "argv", ["vse-search", "stdin=true", f"index={made}", "top=3"])
    with pytest.raises(SystemExit):
        search.main()
    printed = capsys.readouterr()
    answers = [json.loads(line) for line in printed.out.splitlines()]
    assert [len(answer.get("hits", [])) for answer in answers] == [3, 3, 0, 0, 3]
    assert answers[1]["hits"][0]["file"] == FILES[2]
    assert answers[2]["error"].startswith("no.png: no such file")
    assert answers[3] == {"query": "\\udcff", "error": "the query is not UTF-8; type it in a terminal that is"}
    assert printed.err == "error: 2 of 5 queries could not be answered; see the errors among the answers\n"


def test_a_condition_reaches_the_first_stage_of_a_re_ranking(asker):
    where = filter_sql(folder="deep")
    query, _ = encode_text(asker.model, "a red circle")
    hits = find_images(asker.index, asker.model, query, top=3, where=where)
    assert len(hits) == 3
    assert all(hit.file.startswith("deep/") for hit in hits)


QUERY = """
import sys
from vse_gpo.search.__main__ import main
sys.argv = ["vse-search", "a red circle", "json=true", f"index={sys.argv[1]}"]
main()
print(*{name.partition(".")[0] for name in sys.modules} | {"torch._dynamo"} & sys.modules.keys(), file=sys.stderr)
"""


def test_a_query_imports_only_what_its_model_needs(made):
    done = subprocess.run([sys.executable, "-c", QUERY, str(made)], capture_output=True, text=True, check=True)
    loaded = set(done.stderr.split())
    assert {"torch", "lance"} <= loaded
    assert not loaded & {
        *("pytorch_lightning", "lightning_fabric", "torchmetrics", "wandb", "matplotlib", "datasets", "gradio"),
        *("transformers", "timm", "torchvision", "open_clip", "scipy", "sympy", "nltk", "torch._dynamo"),
    }


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
        return json.loads(output.out)["hits"], output.err

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
