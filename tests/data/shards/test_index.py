from pathlib import Path

import numpy as np
import pytest

from tests.helpers.tiny_shards import encoded, write_tar
from vse_gpo.data.shards import index
from vse_gpo.data.shards.index import IndexFiles
from vse_gpo.data.shards.places import find_shards

FILES = {"0.png": encoded(0), "0.txt": b"zero\nnull", "1.png": encoded(1)[:50], "1.txt": b"one", "2.png": encoded(2)}


def index_files(folder: Path, *, decode: bool = False, cache: str = "cache") -> IndexFiles:
    [shard] = find_shards([str(folder / "data" / "a.tar")])
    return IndexFiles(shard, "a", folder / cache, decode=decode)


@pytest.fixture
def tar(tmp_path: Path) -> Path:
    return write_tar(tmp_path / "data" / "a.tar", FILES)


def test_an_index_is_kept_until_its_shard_changes(tar: Path, tmp_path: Path):
    assert index_files(tmp_path).kept() is None
    made = index_files(tmp_path).make()
    kept = index_files(tmp_path).kept()
    assert kept is not None
    for one in (made, kept):
        assert [list(one.names), list(one.captions)] == [["a/0", "a/1"], ["zero", "null", "one"]]
        assert one.counts.tolist() == [2, 1]
        data = tar.read_bytes()[one.offsets[0] : one.offsets[0] + one.sizes[0]]
        assert data == FILES["0.png"]
        assert list(one.broken) == ["a/2: no caption, expected a .txt or .json beside the image"]
    assert [path.name for path in sorted(tar.parent.iterdir())] == ["a.tar", "a.tar.index.npz"]
    write_tar(tar, FILES | {"2.txt": b"two"})
    assert index_files(tmp_path).kept() is None


def test_an_index_without_undecodable_images_has_a_file_of_its_own(tar: Path, tmp_path: Path):
    assert len(index_files(tmp_path).make().names) == 2
    made = index_files(tmp_path, decode=True).make()
    assert list(made.names) == ["a/0"]
    assert made.broken[0].startswith("a/1: cannot be decoded (")
    both = [index_files(tmp_path, decode=decode).kept() for decode in (False, True)]
    assert [len(one.names) for one in both if one] == [2, 1]


def test_where_a_folder_cannot_be_written_the_index_lies_in_the_cache(
    tar: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(index.os, "access", lambda path, mode: Path(path) != tar.parent)
    index_files(tmp_path).make()
    assert list(tar.parent.iterdir()) == [tar]
    assert len(list((tmp_path / "cache").iterdir())) == 1
    assert index_files(tmp_path).kept() is not None


@pytest.mark.parametrize("content", [b"", b"PK\3\4 damaged", None])
def test_a_damaged_index_is_made_again(tar: Path, tmp_path: Path, content: bytes | None):
    index_files(tmp_path).make()
    file = tar.with_name("a.tar.index.npz")
    if content is None:
        np.savez(file, form=np.array({"a": 1}, dtype=object))  # a pickle
    else:
        file.write_bytes(content)
    assert index_files(tmp_path).kept() is None
    index_files(tmp_path).make()
    assert index_files(tmp_path).kept() is not None
