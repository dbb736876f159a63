import gzip
import io
import tarfile
from pathlib import Path

import pytest

from tests.helpers.tiny_shards import write_tar
from vse_gpo.data.shards.members import members
from vse_gpo.errors import VSEError

FILES = {
    "a.txt": b"abc",
    "folder/b.txt": bytes(1000),
    "empty": b"",
    f"{'long/' * 30}c.txt": b"x" * 512,
    "ünïcode.txt": b"y",
    f"{'very' * 40}.txt": b"z" * 513,
}


def found(data: bytes) -> list[tuple[str, bytes]]:
    read = io.BytesIO(data).getbuffer()
    return [
        (name, bytes(read[offset : offset + size]))
        for name, offset, size in members(lambda at, size: bytes(read[at : at + size]), len(data), "x.tar")
    ]


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
def test_files_are_those_of_tarfile(tmp_path: Path, form: int):
    files = {name: data for name, data in FILES.items() if form != tarfile.USTAR_FORMAT or len(name) < 160}
    with tarfile.open(tmp_path / "a.tar", "w", format=form) as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mtime = len(data), 1.5  # a header of its own in pax
            tar.addfile(member, io.BytesIO(data))
        folder = tarfile.TarInfo("folder")
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
    assert found((tmp_path / "a.tar").read_bytes()) == list(files.items())
    with tarfile.open(tmp_path / "a.tar") as tar:
        assert [member.name for member in tar if member.isfile()] == list(files)


def test_sizes_above_eight_gigabytes_are_read():
    large = tarfile.TarInfo("large")
    large.size = 2**34
    for form in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        header = large.tobuf(form)
        read = lambda at, size, header=header: (header + bytes(2**21))[at : at + size] if at < 2**21 else bytes(size)  # noqa: E731
        assert next(members(read, 2**35, "x.tar")).size == 2**34


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data[:700], r"x.tar: truncated after 700 bytes \(a file at 512 has 300 bytes\); fetch it again"),
        (lambda data: data[:1200], r"truncated after 1,200 bytes \(a header at 1,024 is cut\)"),
        (lambda data: data[:2048], r"truncated after 2,048 bytes \(the two blocks of zeros that end a tar are missing"),
        (lambda data: data + data, r"goes on after its end at byte 2,048; are two tars in one file\?"),
        (gzip.compress, "compressed by gzip, where no sample can be read on its own; decompress"),
        (lambda data: b"<html>", "not a tar, or damaged at byte 0"),
        (lambda data: b"", "not a tar, or damaged at byte 0"),
        (lambda data: data[:1030] + b"?" + data[1031:], "not a tar, or damaged at byte 1,024"),
    ],
)
def test_what_is_wrong_with_a_tar_is_told(tmp_path: Path, change, message: str):
    data = write_tar(tmp_path / "a.tar", {"a": bytes(300), "b": bytes(10)}).read_bytes()
    with pytest.raises(VSEError, match=message):
        found(change(data))


def test_a_link_is_refused(tmp_path: Path):
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        link = tarfile.TarInfo("a.jpg")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    with pytest.raises(VSEError, match=r"'a.jpg' is a link or no file, expected files"):
        found((tmp_path / "a.tar").read_bytes())
