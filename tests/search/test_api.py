"""The search over HTTP, on a tiny model and index, without a server."""

import io
import re
import shlex
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

pytest.importorskip("fastapi", reason="the API needs FastAPI, which Gradio brings")

from fastapi.testclient import TestClient
from PIL import Image

from tests.helpers.photo_folder import paint, small_model
from tests.helpers.photo_index import HOSTILE, indexed
from vse_gpo.search.answers import LONGEST, Answers
from vse_gpo.search.api import MOST, build_api
from vse_gpo.search.asking import Asker, answer_of
from vse_gpo.search.items import Compaction
from vse_gpo.search.parts import Part
from vse_gpo.search.reranking import find, stored_query

FILES = [HOSTILE, "3.jpg", *(f"deep/{number}.png" for number in range(4))]
SENT = 5000  # bytes of an image that may be sent


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    home = tmp_path_factory.mktemp("home")
    for seed, file in enumerate(FILES):
        paint(home / "pictures" / file, seed)
    Image.new("RGB", (700, 350), "red").save(home / "pictures" / "3.jpg")
    return home


@pytest.fixture(scope="module")
def answers(home) -> Answers:
    model = small_model(interaction="MaxSim")
    return Answers(indexed(home, model, Compaction(5, "int8")), model)


@pytest.fixture(scope="module")
def client(answers, home):
    return TestClient(build_api(answers, home / "uploads", largest=SENT), raise_server_exceptions=False)


def files_of(answer) -> list[str]:
    assert answer.status_code == 200, answer.text
    return [hit["file"] for hit in answer.json()["hits"]]


def test_a_text_finds_what_the_command_line_finds(client, answers):
    asker = Asker(answers.index, answers.model)
    for options in ({}, {"top": 2}, {"rerank": "auto", "top": 3}, {"rerank": 6, "folder": "deep"}):
        answer = client.get("/search", params={"query": "a red circle", **options}).json()
        wanted = {"top": 10} | {name: value for name, value in options.items() if name == "top"}
        where = "starts_with(file, 'deep/')" if "folder" in options else None
        reply = asker.ask([Part("a red circle")], **wanted, rerank=6 if "rerank" in options else 0, where=where)
        assert answer == answer_of(reply)


def test_conditions_are_those_of_the_command_line(client):
    def found(**options: str) -> set[str]:
        return {*files_of(client.get("/search", params={"query": "a heart", **options}))}

    assert found() == set(FILES)
    assert found(where="width > 100") == {"3.jpg"}
    assert found(after="2023") == found(before="2023") == found(near="48.2,16.4") == found(camera="x") == set()
    nothing = client.get("/search", params={"query": "a heart", "camera": "x"}).json()
    assert (nothing["fits"], nothing["reason"]) == (False, "no image meets the conditions")


@pytest.mark.parametrize("rerank", [None, 6])
def test_an_image_of_the_index_finds_others(client, answers, rerank):
    options = {} if rerank is None else {"rerank": rerank}
    found = client.get("/similar", params={"file": FILES[3], "top": 6, **options})
    [row] = [row for row in range(6) if answers.index.files([row]) == [FILES[3]]]
    query = stored_query(answers.index, row, with_items=rerank is not None)
    expected = find(answers.index, answers.model, query, top=6, rerank=rerank or 0, without=row)
    assert files_of(found) == [hit.file for hit in expected]
    assert FILES[3] not in files_of(found)
    assert len(expected) == 5
    assert found.json()["fits"] is None


def test_an_image_that_is_sent_finds_itself_and_is_not_kept(client, home):
    data = (home / "pictures" / FILES[4]).read_bytes()
    found = client.post("/similar", content=data, params={"top": 2, "rerank": "auto"})
    assert files_of(found)[0] == FILES[4]
    assert found.json()["query"] == "like an image that was sent"
    assert [*(home / "uploads").iterdir()] == []


def test_a_thumbnail_is_the_stored_one_or_is_made(client, answers, home):
    def seen(file: str) -> tuple[int, int]:
        answer = client.get("/thumbnail", params={"file": file})
        assert (answer.status_code, answer.headers["content-type"]) == (200, "image/jpeg")
        return Image.open(io.BytesIO(answer.content)).size

    assert seen("3.jpg") == (256, 128)
    assert seen(HOSTILE) == (40, 30)
    for file in ("3.jpg", FILES[5]):
        away = (home / "pictures" / file).rename(home / "away")
        (home / "pictures" / file).symlink_to(away)  # leads out
        if file == "3.jpg":
            assert seen(file) == (256, 128)  # stored
        else:
            assert client.get("/thumbnail", params={"file": file}).status_code == 404
        away.replace(home / "pictures" / file)


def test_the_commands_of_the_documentation_are_answered(client, home):
    guide = Path(__file__).parents[2] / "docs" / "pages" / "guides" / "search_your_images.md"
    commands = [shlex.split(line) for line in re.findall(r"^curl .*", guide.read_text(encoding="utf-8"), re.MULTILINE)]
    assert len(commands) == 5
    for words in commands:
        place = words[-1].removeprefix("http://127.0.0.1:7860/api")
        sent = [word.removeprefix("@my_images/") for word in words if word.startswith("@")]
        assert place.startswith("/")
        answer = client.post(place, content=(home / "pictures" / sent[0]).read_bytes()) if sent else client.get(place)
        assert answer.status_code == 200, answer.text


def test_it_says_that_it_is_well_and_describes_itself(client, answers):
    health = {"status": "ok", "images": 6, "model": answers.index.settings.fingerprint}
    assert client.get("/health").json() == health
    places = client.get("/openapi.json").json()["paths"]
    assert {place: [*methods] for place, methods in places.items()} == {
        "/search": ["get"],
        "/similar": ["get", "post"],
        "/thumbnail": ["get"],
        "/health": ["get"],
    }


@pytest.mark.parametrize(
    ("place", "status", "line"),
    [
        ("/search", 422, "query: field required"),
        ("/search?query=%20", 400, "nothing to look for"),
        (f"/search?query={'x' * (LONGEST + 1)}", 422, f"query: string should have at most {LONGEST} characters"),
        ("/search?query=a&tpo=3", 422, "tpo: extra inputs are not permitted"),
        ("/search?query=a&image=/etc/passwd", 422, "image: extra inputs are not permitted"),
        (f"/search?query=a&top={MOST + 1}", 422, f"top: input should be less than or equal to {MOST}"),
        ("/search?query=a&top=0", 422, "top: input should be greater than or equal to 1"),
        ("/search?query=a&rerank=7", 400, "rerank=7, but the index holds 6 images"),
        ("/search?query=a&rerank=2", 400, "rerank=2, but top=10 images are shown"),
        ("/search?query=a&where=hash", 400, "where=: no column hash"),
        ("/search?query=a&near=1", 400, "near=1, expected latitude,longitude"),
        ("/search?query=a&folder=/etc", 400, "folder=/etc, expected a folder under the image folder"),
        ("/similar?file=no.png", 404, "no image 'no.png' in the index"),
        ("/similar?file=../index/index.json", 404, "no image '../index/index.json' in the index"),
        ("/thumbnail?file=/etc/passwd", 404, "no image '/etc/passwd' in the index"),
        ("/nothing", 404, "Not Found"),
    ],
)
def test_an_error_is_one_line_of_json_with_its_status(client, place, status, line):
    answer = client.get(place)
    assert answer.status_code == status, answer.text
    [(name, told)] = answer.json().items()
    assert name == "error"
    assert told.startswith(line)
    assert told.isprintable()


def test_what_is_sent_and_is_no_image_or_too_large_is_refused(client, home):
    for data, status, line in (
        (b"", 400, "not an image"),
        (b"no image", 400, "not an image"),
        (b"x" * (SENT + 1), 413, "a larger image than expected, at most 0.005 MB"),
    ):
        answer = client.post("/similar", content=data)
        assert (answer.status_code, [*answer.json()]) == (status, ["error"])
        assert line in answer.json()["error"]
        assert str(home) not in answer.text
    assert [*(home / "uploads").iterdir()] == []


def test_a_fault_of_the_program_says_nothing_of_its_inside(answers, home, monkeypatch):
    monkeypatch.setattr(answers.index.table, "read", lambda *_, **__: 1 / 0)
    client = TestClient(build_api(answers, home / "uploads"), raise_server_exceptions=False)
    answer = client.get("/thumbnail", params={"file": "3.jpg"})
    assert (answer.status_code, answer.json()) == (500, {"error": "a fault of the server; its log has the details"})


def test_many_at_once_get_their_own_answers_from_one_thread(client, answers, monkeypatch):
    texts = ["a red circle", "a blue square", "a heart", "a star"]
    alone = {text: client.get("/search", params={"query": text}).json() for text in texts}
    threads, in_turn = set(), answers.in_turn
    monkeypatch.setattr(answers, "in_turn", lambda: threads.add(threading.get_ident()) or in_turn())
    with ThreadPoolExecutor(8) as clients:
        found = list(clients.map(lambda n: client.get("/search", params={"query": texts[n % 4]}).json(), range(24)))
    assert found == [alone[text] for text in texts * 6]
    assert len(threads) == 1
