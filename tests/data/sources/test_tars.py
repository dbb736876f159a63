"""WebDataset's tars, and their names in braces."""

import io
import tarfile
from pathlib import Path

import pytest

from vse_gpo.data.sources.columns import Wanted
from vse_gpo.data.sources.tars import BLOCK, expanded_braces, is_tar, read_tar


@pytest.mark.parametrize(
    ("name", "names"),
    [
        ("a.tar", ["a.tar"]),
        ("a-{08..11}.tar", ["a-08.tar", "a-09.tar", "a-10.tar", "a-11.tar"]),
        ("{0..1}/{5..6}", ["0/5", "0/6", "1/5", "1/6"]),
        ("a{b}.tar", ["a{b}.tar"]),
    ],
)
def test_braces_are_expanded_as_a_shell_does(name, names):
    assert expanded_braces(name) == names


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
