"""Requests that the page must not see: of other sites, under foreign names, and too many uploads."""

import os

import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from vse_gpo.search.guard import Guard, is_own_name, without_settings_of_gradio


@pytest.fixture
def client(tmp_path):
    async def answer(request):
        return PlainTextResponse("let through")

    async def socket(websocket):
        await websocket.accept()
        await websocket.send_text("let through")

    methods = ["GET", "POST", "OPTIONS"]
    routes = [Route("/{rest:path}", answer, methods=methods), WebSocketRoute("/socket", socket)]
    (tmp_path / "old").write_bytes(b"x" * 60)
    guarded = Guard(Starlette(routes=routes), hosts=["photos.lan"], uploads=tmp_path, quota=100)
    return TestClient(guarded, base_url="http://127.0.0.1:7860")


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:7860", 200),
        ("localhost:7860", 200),
        ("[::1]:7860", 200),
        ("192.168.1.7:7860", 200),
        ("PHOTOS.lan", 200),
        ("rebound.example:7860", 421),
        ("127.0.0.1.nip.io:7860", 421),
        ("localhost.example", 421),
        ("[::1].example", 421),
        ("rebound.example@127.0.0.1", 421),
        ("127.0.0.1#.rebound.example", 421),
        ("", 421),
    ],
)
def test_only_known_hosts_are_answered(client, host, status):
    assert client.get("/", headers={"host": host}).status_code == status


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"origin": "http://127.0.0.1:7860"}, 200),
        ({"origin": "http://127.0.0.1:8000"}, 403),
        ({"origin": "https://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"}, 403),
        ({"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}, 200),  # a link to the page
        ({"sec-fetch-site": "same-origin"}, 200),
    ],
)
def test_foreign_origins_change_and_read_nothing(client, headers, status):
    for method in ("GET", "POST"):
        answer = client.request(method, "/gradio_api/queue/join", headers=headers)
        assert answer.status_code == status
        assert status == 200 or answer.json()["error"].startswith("refused: asked by ")


def test_a_foreign_site_opens_no_socket(client):
    own = {"host": "127.0.0.1:7860"}
    with client.websocket_connect("/socket", headers=own) as socket:
        assert socket.receive_text() == "let through"
    for headers in (own | {"origin": "https://evil.example"}, {"host": "rebound.example"}):
        with pytest.raises(WebSocketDisconnect), client.websocket_connect("/socket", headers=headers):
            pass


def test_uploads_have_so_much_space(client):
    assert client.post("/gradio_api/upload", content=b"x" * 40).status_code == 200
    for place in ("/gradio_api/upload", "/api/similar"):
        assert client.post(place, content=b"x" * 41).status_code == 413
    assert client.post("/gradio_api/upload", content=iter([b"x"])).status_code == 411  # no length
    assert client.post("/gradio_api/other", content=b"x" * 41).status_code == 200


def test_gradios_variables_are_ignored_with_a_line_each(monkeypatch, capsys):
    for name in ("GRADIO_SHARE", "GRADIO_ALLOWED_PATHS", "GRADIO_TEMP_DIR"):
        monkeypatch.setenv(name, "/etc")
    without_settings_of_gradio()
    assert not {"GRADIO_SHARE", "GRADIO_ALLOWED_PATHS"} & os.environ.keys()
    assert os.environ["GRADIO_TEMP_DIR"] == "/etc"
    assert capsys.readouterr().err.count("is ignored") == 2


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_a_loopback_address_is_this_machines_own(host):
    assert is_own_name(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.0.3", "photos.lan", "localhost.example", ""])  # noqa: S104
def test_other_addresses_are_not(host):
    assert not is_own_name(host)
