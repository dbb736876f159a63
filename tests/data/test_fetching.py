"""Downloads from a server on this machine: resumed, checked, and never half there under their names."""

import hashlib
import re
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest
from huggingface_hub import constants

from vse_gpo.data.addresses import Address
from vse_gpo.data.fetching import PART, download, unpack_file, unpack_folder
from vse_gpo.errors import VSEError

CONTENT = bytes(range(256)) * 4000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[SimpleNamespace]:
    """A server of CONTENT; ``cut`` answers end half-way, and ``ranges`` has what was asked for."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1000)  # what a cut may lose
    state = SimpleNamespace(cut=0, ranges=[], known=True, address="")

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = self.headers.get("Range")
            state.ranges.append(asked)
            first = int(re.search(r"bytes=(\d+)-", asked)[1]) if asked else 0
            data = CONTENT[first:] if state.known else CONTENT
            if self.path != "/file":
                self.send_error(404)
                return
            self.send_response(206 if asked and state.known else 200)
            self.send_header("Content-Length", str(len(data)))
            if asked and state.known:
                self.send_header("Content-Range", f"bytes {first}-{len(CONTENT) - 1}/{len(CONTENT)}")
            self.end_headers()
            if state.cut:
                state.cut -= 1
                data = data[: len(data) // 2]
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        state.address = f"http://127.0.0.1:{running.server_port}/file"
        yield state
        running.shutdown()
        thread.join()


def source(address: str, **settings: object) -> Address:
    return Address(what="a file", address=address, seen="not checked", **settings)


def test_a_download_that_is_cut_off_resumes_where_it_ended(server, tmp_path):
    server.cut = 1
    path = download(source(server.address, size=len(CONTENT), sha256=SHA256), tmp_path / "file.bin")
    assert path.read_bytes() == CONTENT
    assert server.ranges == [None, f"bytes={len(CONTENT) // 2}-"]
    assert [one.name for one in tmp_path.iterdir()] == ["file.bin"]
    server.ranges.clear()
    assert download(source(server.address), path) == path  # it is there
    assert server.ranges == []


@pytest.mark.parametrize("knows_ranges", [True, False])
def test_the_next_command_resumes_what_a_killed_one_left(server, tmp_path, knows_ranges):
    server.known = knows_ranges
    (tmp_path / f"file{PART}").write_bytes(CONTENT[:1000])
    assert download(source(server.address, sha256=SHA256[:8]), tmp_path / "file").read_bytes() == CONTENT
    assert server.ranges == ["bytes=1000-"]


def test_a_copy_is_taken_where_the_address_fails(server, tmp_path):
    gone = server.address.replace("file", "none")
    path = download(source(gone, copies=[server.address], sha256=SHA256), tmp_path / "file")
    assert path.read_bytes() == CONTENT
    with pytest.raises(VSEError, match="/none: cannot be fetched"):
        download(source(gone, copies=[f"{gone}/either"]), tmp_path / "other")


def test_what_is_wrong_does_not_get_the_name(server, tmp_path, monkeypatch):
    with pytest.raises(VSEError, match=rf"checksum {SHA256[:16]}…, expected 0000…; removed"):
        download(source(server.address, sha256="0000"), tmp_path / "file")
    assert not any(tmp_path.iterdir())
    with pytest.raises(VSEError, match=r"/none: cannot be fetched \(.*404.*\); the same command resumes"):
        download(source(server.address.replace("file", "none")), tmp_path / "file")
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=5_000_000))
    with pytest.raises(VSEError, match=r"5\.0 MB free, 2\.0 GB needed"):
        download(source(server.address, size=2 * 10**9), tmp_path / "file")
    assert not (tmp_path / "file").exists()


def zipped(path: Path, **members: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as content:
        for name, data in members.items():
            content.writestr(name, data)
    return path


def test_a_folder_of_a_zip_is_unpacked_whole(tmp_path):
    archive = zipped(tmp_path / "z.zip", **{"x/val2014/1.jpg": b"1", "x/val2014/a/2.jpg": b"2", "readme": b""})
    unpack_folder(archive, tmp_path / "images" / "val2014")
    assert {one.relative_to(tmp_path).as_posix() for one in tmp_path.rglob("*.jpg")} == {
        "images/val2014/1.jpg",
        "images/val2014/a/2.jpg",
    }
    assert not archive.exists()


@pytest.mark.parametrize(
    ("members", "message"),
    [({"x": b""}, "no folder val in it"), ({"val/../../x": b""}, "lies outside it"), (None, "not a whole zip")],
)
def test_a_zip_that_does_not_fit_leaves_nothing(members, message, tmp_path):
    archive = zipped(tmp_path / "z.zip", **(members or {"val/1": b"1"}))
    if members is None:
        archive.write_bytes(archive.read_bytes()[:-30])
    with pytest.raises(VSEError, match=message):
        unpack_folder(archive, tmp_path / "val")
    assert list(tmp_path.iterdir()) == [archive]


def test_a_file_of_a_zip_is_written_beside_it(tmp_path):
    archive = zipped(tmp_path / "z.zip", **{"x/dataset.json": b"{}"})
    assert unpack_file(archive, "dataset.json").read_bytes() == b"{}"
    with pytest.raises(VSEError, match=r"no other\.json in it"):
        unpack_file(archive, "other.json")
    archive.write_bytes(b"none")
    with pytest.raises(VSEError, match="not a whole zip"):
        unpack_file(archive, "dataset.json")
