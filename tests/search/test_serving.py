"""The page of an index as a user starts it, until it is interrupted."""

import sys

import pytest
import torch

pytest.importorskip("gradio", reason="the page needs Gradio")

from tests.helpers.photo_folder import paint, small_model
from tests.helpers.photo_index import indexed
from vse_gpo import app
from vse_gpo.search import serving
from vse_gpo.search.items import Compaction
from vse_gpo.search.serving import example_texts


@pytest.fixture
def home(tmp_path):
    """A model, pictures, their index and captions."""
    model = small_model()
    model.save_pretrained(tmp_path / "model")
    for seed in range(3):
        paint(tmp_path / "pictures" / f"{seed}.png", seed)
    indexed(tmp_path, model)
    (tmp_path / "captions.txt").write_text("a red circle\na heart\na red circle\n", encoding="utf-8")
    return tmp_path


@pytest.fixture
def start(home, monkeypatch):
    """Runs the command up to where it would wait; the page's arguments."""
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
    built = {}

    class Page:
        def block_thread(self):
            built["waited"] = True

    def build_page(answers, **settings):
        built.update(settings, answers=answers)
        return Page()

    def serve(page, *, host, port, open_browser, **settings):
        built.update(place=(host, port), open_browser=open_browser)
        return f"http://{host}:{port}/"

    monkeypatch.setattr(serving, "build_page", build_page)
    monkeypatch.setattr(serving, "serve", serve)

    def run(*overrides: str) -> dict[str, object]:
        place = [f"index={home / 'index'}", f"model={home / 'model'}", "accelerator=cpu", "port=7000"]
        monkeypatch.setattr(sys, "argv", ["vse-app", *place, *overrides])
        app.main()
        return built

    return run


def test_an_index_is_served_with_captions_as_examples_until_it_is_interrupted(start, home, capsys):
    built = start(f"captions={home / 'captions.txt'}")
    assert capsys.readouterr().out == "http://127.0.0.1:7000/ shows 3 images; Ctrl+C ends it\n"
    assert built["examples"] == built["answers"].captions == ["a red circle", "a heart"]
    assert built["open_browser"] is False
    assert built["waited"] is True


@pytest.mark.parametrize(
    ("override", "shown"), [("host=127.0.0.1", True), ("host=0.0.0.0", False), ("hosts=[photos.lan]", False)]
)
def test_whole_paths_are_shown_only_on_this_machine(start, override, shown):
    assert start(override)["shows_paths"] is shown


@pytest.mark.parametrize(
    ("override", "examples"),
    [("examples=[one,two]", ["one", "two"]), ("examples=one", ["one"]), ("examples=[]", []), ("top=2", [])],
)
def test_examples_can_be_chosen(start, override, examples):
    assert start(override)["examples"] == examples


@pytest.mark.parametrize(
    ("override", "line"),
    [("index=nowhere", "index=nowhere: no index"), ("captions=none.txt", "none.txt: no such file")],
)
def test_what_is_not_there_is_one_line(start, capsys, override, line):
    with pytest.raises(SystemExit, match="1"):
        start(override)
    assert capsys.readouterr().err.startswith(f"error: {line}")


def test_a_page_re_ranks_an_index_with_items_unless_told_otherwise(start, home, capsys):
    assert start()["answers"].rerank == 0
    with pytest.raises(SystemExit):
        start("rerank=2")
    assert capsys.readouterr().err.startswith("error: rerank=2: the model has no interaction")
    model = small_model(interaction="MaxSim")
    model.save_pretrained(home / "comparing")
    indexed(home, model, Compaction(4, "int8"))
    assert start(f"model={home / 'comparing'}")["answers"].rerank == 3
    assert start(f"model={home / 'comparing'}", "rerank=null")["answers"].rerank == 0
    assert start(f"model={home / 'comparing'}", "rerank=2", "top=2")["answers"].rerank == 2


def test_examples_are_short_captions_from_all_over_the_list():
    captions = [f"caption {number:03d}" for number in range(100)] + ["a very long caption " * 10]
    assert example_texts(captions)[:2] == ["caption 000", "caption 016"]
    assert len(example_texts(captions)) == 6
    assert example_texts(["one"]) == ["one"]
    assert example_texts([]) == []


def test_a_query_is_encoded_in_the_precision_that_is_asked_for(start, home, capsys):
    image = home / "pictures" / "0.png"
    exact, near = (start(f"precision={kind}")["answers"].picture(image).encoded.embeddings for kind in (32, "bf16"))
    assert not torch.equal(exact, near)
    assert float(exact[0] @ near[0]) > 0.99
    with pytest.raises(SystemExit):
        start("precision=half")
    assert capsys.readouterr().err == "error: precision=half, expected 32, bf16, 16\n"
