"""WebDataset's tars as a source of captions and images."""

import io
import tarfile
from pathlib import Path

import pytest

from vse_gpo.data.sources.columns import Wanted
from vse_gpo.data.sources.tars import BLOCK, is_tar, read_tar


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_a_sample_has_an_image_and_captions(mode, tmp_path: Path):
    members = {
        "x/1.jpg": b"one",
        "x/1.cls": b"3",
        "x/1.txt": b"a dog\n\na cat\n",
        "x/2.png": b"two",
        "x/2.json": b'{"Text": ["a boat"], "split": "val"}',
    }
    with tarfile.open(tmp_path / "t", mode) as tar:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    assert is_tar((tmp_path / "t").read_bytes()[:BLOCK])
    part = read_tar(tmp_path / "t", Wanted(), [])
    assert [(one.file, one.caption, one.split) for _, one in part.found] == [
        ("x/1.jpg", "a dog", ""),
        ("x/1.jpg", "a cat", ""),
        ("x/2.png", "a boat", "val"),
    ]
    assert list(part.images()) == [("x/1.jpg", b"one"), ("x/2.png", b"two")]
