"""vse-search with page=…, against a server of this process."""

import io
import json
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

pytest.importorskip("fastapi", reason="the API needs FastAPI, which Gradio brings")

import uvicorn
from starlette.applications import Starlette
from starlette.routing import Mount

from tests.helpers.photo_folder import paint, small_model
from tests.helpers.photo_index import HOSTILE, indexed
from vse_gpo.errors import VSEError
from vse_gpo.search import __main__ as search
from vse_gpo.search.answers import Answers
from vse_gpo.search.api import build_api
from vse_gpo.search.asking import Asker, answer_of
from vse_gpo.search.client import ask_page
from vse_gpo.search.items import Compaction
from vse_gpo.search.parts import Part, parts_of

FILES = [HOSTILE, *(f"deep/{number}.png" for number in range(4))]


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    home = tmp_path_factory.mktemp("home")
    for seed, file in enumerate(FILES):
        paint(home / "pictures" / file, seed)
    return home


@pytest.fixture(scope="module")
def answers(home) -> Answers:
    model = small_model(interaction="MaxSim")
    return Answers(indexed(home, model, Compaction(5, "int8")), model)


@pytest.fixture(scope="module")
def page(answers, home) -> Iterator[str]:
    listening = socket.create_server(("127.0.0.1", 0))
    app = Starlette(routes=[Mount("/api", build_api(answers, home / "uploads"))])
    server = uvicorn.Server(uvicorn.Config(app, log_level="error"))
    thread = threading.Thread(target=server.run, args=([listening],))
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    server.should_exit = True
    thread.join()


@pytest.fixture
def say(monkeypatch, capsys) -> Callable[..., str]:
    """Runs the command; what it printed."""
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)

    def said(*arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", ["vse-search", *arguments])
        search.main()
        return capsys.readouterr().out

    return said


def test_a_page_answers_as_its_index_does(say, page, answers):
    asker = Asker(answers.index, answers.model)
    for options, asked in (
        ([], {"top": 10}),
        (["top=2", "rerank=auto"], {"top": 2, "rerank": len(FILES)}),
        (["folder=deep"], {"top": 10, "where": "starts_with(file, 'deep/')"}),
    ):
        expected = answer_of(asker.ask([Part("a red & green circle?")], **asked))
        found = say("a red & green circle?", f"page={page}/", "json=true", *options)
        assert json.loads(found) == expected


def test_an_image_is_sent_to_the_page(say, page, home):
    found = json.loads(say(f"image={home / 'pictures' / FILES[2]}", f"page={page}", "json=true", "top=3"))
    assert found["hits"][0]["file"] == FILES[2]
    assert [found["fits"], len(found["hits"])] == [None, 3]


def test_lines_are_answered_by_a_page(say, page, monkeypatch, capsys):
    lines = "a red circle\nimage=no.png\na star\n"
    monkeypatch.setattr(sys, "stdin", io.StringIO(lines))
    with pytest.raises(SystemExit):
        say("stdin=true", f"page={page}", "top=1")
    printed = capsys.readouterr()
    assert [[*json.loads(line)][1] for line in printed.out.splitlines()] == ["fits", "error", "fits"]
    assert printed.err == "error: 1 of 3 queries could not be answered; see the errors among the answers\n"
    monkeypatch.setattr(sys, "stdin", io.StringIO(lines))
    assert say("interactive=true", f"page={page}", "top=1", "nearest=true").count("rank") == 2


def test_what_a_page_refuses_is_told_in_its_words(page):
    with pytest.raises(VSEError, match="no column colour, expected one of file"):
        ask_page(page, parts_of("a star"), options={"where": "colour = 3"})
    with pytest.raises(VSEError, match="top: input should be less than or equal to 1000"):
        ask_page(page, parts_of("a star"), options={"top": 5000})


class Other(BaseHTTPRequestHandler):
    """Another program, which answers everything with what its address ends with."""

    def do_GET(self) -> None:
        status, body = self.server.answer  # type: ignore[attr-defined]
        self.send_response(status)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def other() -> Iterator[HTTPServer]:
    server = HTTPServer(("127.0.0.1", 0), Other)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize(
    "answer", [(200, b"<html>"), (200, b"[1]"), (200, b"\xff"), (404, b"no"), (500, b'{"error": 3}'), (404, b"[]")]
)
def test_another_program_is_told(answer, other):
    other.answer = answer
    address = f"http://127.0.0.1:{other.server_port}"
    with pytest.raises(VSEError, match=f"page={address}: no vse-app answers there, but another program"):
        ask_page(address, parts_of("a star"), options={})


def test_what_another_program_says_steers_no_terminal(other):
    other.answer = (400, b'{"error": "\\u001b[31mred"}')
    with pytest.raises(VSEError) as told:
        ask_page(f"http://127.0.0.1:{other.server_port}", parts_of("a star"), options={})
    assert str(told.value) == "\\x1b[31mred"


def test_where_nothing_answers_it_says_what_to_start():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"http://127.0.0.1:{taken.getsockname()[1]}"
    ask = partial(ask_page, parts=parts_of("a star"), options={})
    with pytest.raises(VSEError, match=rf"page={address}: .*refused; start vse-app index=… there, or name the index"):
        ask(address)
    for wrong in ("127.0.0.1:7860", "file:///etc/passwd", "a page", "http://[::1", "http://:7860", "http://here:port"):
        with pytest.raises(
            VSEError, match=f"page={re.escape(wrong)}, expected an address such as http://127.0.0.1:7860"
        ):
            ask(wrong)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["a star"], "index must be set; add index=…, or page=… where vse-app runs"),
        (["a star", "page=x", "index=y"], "index=y with page=x, which has its own; leave one out"),
        (["a star", "page=x", "plus=a dog"], "plus=a dog with page=x, which takes one text or one image; leave one"),
        (["a star", "page=x", "image=a.jpg"], "page=x: a page answers one text or one image; leave page out"),
    ],
)
def test_what_a_page_cannot_do_is_refused(say, arguments, line, capsys):
    with pytest.raises(SystemExit):
        say(*arguments)
    assert capsys.readouterr().err.startswith(f"error: {line}")


IMPORTED = """
import sys
from vse_gpo.search.__main__ import main
sys.argv = ["vse-search", "a red circle", "json=true", f"page={sys.argv[1]}"]
main()
print(*{name.partition(".")[0] for name in sys.modules}, file=sys.stderr)
"""


def test_asking_a_page_imports_no_model(page):
    done = subprocess.run([sys.executable, "-c", IMPORTED, page], capture_output=True, text=True, check=True)
    assert len(json.loads(done.stdout)["hits"]) == len(FILES)
    assert not {*done.stderr.split()} & {"torch", "lance", "pyarrow", "numpy"}
