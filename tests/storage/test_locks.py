"""One process at a time in a folder; its end frees it, whatever ends it."""

import errno
import fcntl
import os

import pytest

from tests.helpers.held import holder
from vse_gpo.errors import VSEError
from vse_gpo.storage.locks import LOCK, only_process_in


def test_a_folder_is_held_by_one_process_until_it_is_killed(tmp_path):
    folder = tmp_path / "run"
    with holder(folder) as process:
        with (
            pytest.raises(VSEError, match=rf"run: process {process.pid} on \S+ is at work in it; wait"),
            only_process_in(folder),
        ):
            pass
        assert (folder / LOCK).exists()
        process.kill()
        process.wait()
        with only_process_in(folder):
            assert (folder / LOCK).read_text().startswith(f"process {os.getpid()} on ")
    assert list(folder.iterdir()) == []


def test_a_folder_with_nothing_in_it_is_not_left_behind(tmp_path):
    with only_process_in(tmp_path / "new"):
        assert (tmp_path / "new").is_dir()
    with only_process_in(tmp_path):
        (tmp_path / "file").touch()
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_file_in_the_place_of_the_folder_is_told(tmp_path):
    (tmp_path / "file").touch()
    with (
        pytest.raises(VSEError, match=r"file: cannot be written .*name another folder"),
        only_process_in(tmp_path / "file"),
    ):
        pass


def test_a_file_system_without_locks_is_told_and_used(tmp_path, monkeypatch):
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "lockf", refuse)
    with (
        pytest.warns(UserWarning, match="not locked .*No locks available.*one process at a time"),
        only_process_in(tmp_path),
    ):
        (tmp_path / "file").touch()
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
