"""Files and folders are whole or not there."""

from typing import BinaryIO

import pytest

from vse_gpo.errors import VSEError
from vse_gpo.storage.writing import whole_file, whole_folder, write_text


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


def test_a_folder_appears_when_it_is_complete(tmp_path):
    with whole_folder(tmp_path / "new") as part:
        (part / "inside").mkdir()
        (part / "inside" / "file").write_text("x")
        assert not (tmp_path / "new").exists()
    assert (tmp_path / "new" / "inside" / "file").read_text() == "x"
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o755
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
