"""Files and folders are whole or not there."""

import errno
import os
import signal
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import pytest
import torch
from safetensors.torch import save_file

from vse_gpo.errors import VSEError
from vse_gpo.storage.writing import checksum, reserve, whole_file, whole_folder, write_text, write_together


def test_a_file_in_the_place_of_a_folder_is_told_in_one_line(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(VSEError, match=r"cannot be written .*what was there before is kept"):
        write_text(tmp_path / "file" / "x.json", "{}")


def write_half(file: BinaryIO) -> None:
    file.write(b"half")
    raise OSError("disk full")


def test_what_fails_half_way_leaves_what_was_there_before(tmp_path):
    path = tmp_path / "new folder" / "file"
    write_text(path, "before")
    with pytest.raises(VSEError, match=r"cannot be written \(disk full\); what was there"), whole_file(path) as file:
        write_half(file)
    assert path.read_text() == "before"
    assert [other.name for other in path.parent.iterdir()] == ["file"]


def test_of_several_files_none_is_new_before_all_are_whole(tmp_path):
    old = {tmp_path / name: "old" for name in "ab"}
    write_together(old)
    with pytest.raises(VSEError, match="cannot be written"):
        write_together({**dict.fromkeys(old, "new"), tmp_path / "a" / "in a file": "x"})
    assert {path: path.read_text() for path in old} == old
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


def test_a_folder_appears_when_it_is_complete(tmp_path):
    with whole_folder(tmp_path / "new") as part:
        (part / "inside").mkdir()
        (part / "inside" / "file").write_text("x")
        assert not (tmp_path / "new").exists()
    assert (tmp_path / "new" / "inside" / "file").read_text() == "x"
    assert [path.name for path in tmp_path.iterdir()] == ["new"]


def test_a_folder_that_fails_half_way_is_not_there(tmp_path):
    with pytest.raises(ZeroDivisionError), whole_folder(tmp_path / "new"):
        _ = 1 / 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("taken", ["file", "folder"])
def test_a_folder_with_something_in_it_is_left_alone(tmp_path, taken):
    place = tmp_path / taken
    (place if taken == "file" else place / "inside").parent.mkdir(exist_ok=True)
    (place if taken == "file" else place / "inside").touch()
    with pytest.raises(VSEError, match="exists and is not empty, expected a new folder"), whole_folder(place):
        pass


@pytest.fixture(params=[0o022, 0o077, 0o002], ids=oct)
def umask(request) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_files_have_the_modes_that_open_gives(tmp_path, umask):
    write_text(tmp_path / "file", "x")
    assert mode(tmp_path / "file") == 0o666 & ~umask
    with whole_folder(tmp_path / "new") as part:
        (part / "inside").mkdir()
        save_file({"x": torch.zeros(1)}, part / "inside" / "x.safetensors")
    assert mode(tmp_path / "new") == mode(tmp_path / "new" / "inside") == 0o777 & ~umask
    assert mode(tmp_path / "new" / "inside" / "x.safetensors") == 0o666 & ~umask


def test_a_file_that_is_written_again_keeps_its_mode(tmp_path):
    write_text(tmp_path / "file", "x")
    (tmp_path / "file").chmod(0o640)
    write_text(tmp_path / "file", "y")
    assert (mode(tmp_path / "file"), (tmp_path / "file").read_text()) == (0o640, "y")


def test_two_that_write_one_file_have_parts_of_their_own(tmp_path):
    path = tmp_path / "file"
    with whole_file(path) as first:
        first.write(b"fir")
        with whole_file(path) as second:
            second.write(b"second")
        assert path.read_bytes() == b"second"
        first.write(b"st")
    assert path.read_bytes() == b"first"
    assert list(tmp_path.iterdir()) == [path]


KILLED = """
import os, sys
from pathlib import Path
from vse_gpo.storage.writing import whole_file, whole_folder
with whole_file(Path(sys.argv[1], "file")) as file, whole_folder(Path(sys.argv[1], "folder")) as part:
    (part / "x").write_bytes(b"half")
    file.write(b"half")
    file.flush()
    os.kill(os.getpid(), 9)
"""


def test_the_next_one_removes_what_a_killed_one_has_left(tmp_path):
    done = subprocess.run([sys.executable, "-c", KILLED, tmp_path], check=False)
    assert done.returncode == -signal.SIGKILL
    assert len(list(tmp_path.glob(".*.part"))) == 2
    write_text(tmp_path / "file", "whole")
    with whole_folder(tmp_path / "folder") as part:
        (part / "x").touch()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]


def test_a_name_may_be_as_long_as_the_file_system_has_it(tmp_path):
    write_text(tmp_path / ("ü" * 127), "x")
    with pytest.raises(VSEError, match=r"cannot be written .*File name too long"):
        write_text(tmp_path / ("x" * 256), "x")
    assert [path.name for path in tmp_path.iterdir()] == ["ü" * 127]


def test_space_is_reserved_or_refused(tmp_path, monkeypatch):
    with (tmp_path / "file").open("wb") as file:
        reserve(file, 10_000)
    assert (tmp_path / "file").stat().st_size == 10_000
    assert (tmp_path / "file").stat().st_blocks * 512 >= 10_000
    for number, told in ((errno.ENOSPC, True), (errno.EOPNOTSUPP, False)):

        def refuse(*_: object, number: int = number) -> None:
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(os, "posix_fallocate", refuse)
        with (tmp_path / "other").open("wb") as file:
            if told:
                with pytest.raises(OSError, match="No space left"):
                    reserve(file, 10)
            else:
                reserve(file, 10)


def test_a_checksum_is_the_crc_of_the_whole_file(tmp_path):
    content = os.urandom(2**20 + 3)
    (tmp_path / "file").write_bytes(content)
    assert checksum(tmp_path / "file") == zlib.crc32(content)
