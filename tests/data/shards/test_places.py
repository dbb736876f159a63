import os
import pickle
import sys
from pathlib import Path

import fsspec
import pytest

from vse_gpo.data.shards.places import OpenShards, expand, find_shards, opened
from vse_gpo.errors import VSEError


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("a.tar", ["a.tar"]),
        ("t-{08..11}.tar", ["t-08.tar", "t-09.tar", "t-10.tar", "t-11.tar"]),
        ("{a,b}-{0..1}.tar", ["a-0.tar", "a-1.tar", "b-0.tar", "b-1.tar"]),
    ],
)
def test_a_pattern_stands_for_names(pattern: str, names: list[str]):
    assert expand(pattern) == names


@pytest.mark.parametrize("pattern", ["{0..1.tar", "{1..0}", "{a..c}", "{}"])
def test_other_braces_are_refused(pattern: str):
    with pytest.raises(VSEError, match=r"cannot be read, expected \{000..099\} or \{a,b\} in braces"):
        expand(pattern)


def files(folder: Path, count: int) -> list[str]:
    for number in range(count):
        (folder / f"{number}.tar").write_bytes(bytes([number]) * 10)
    return [str(folder / "*.tar")]


def test_shards_are_found_in_order(tmp_path: Path):
    shards = find_shards([*files(tmp_path, 3), str(tmp_path / "0.tar")])
    assert [Path(shard.path).name for shard in shards] == ["0.tar", "1.tar", "2.tar", "0.tar"]
    assert all(shard.size == 10 and shard.is_local for shard in shards)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("{0..1}.tar", r"1.tar: no such shard, expected a tar file"),
        ("none-*.tar", "no such shard, expected tar files"),
        ("what://x.tar", "what://x.tar: Protocol not known"),
    ],
)
def test_a_missing_shard_is_named(tmp_path: Path, name: str, message: str):
    files(tmp_path, 1)
    with pytest.raises(VSEError, match=message):
        find_shards([name if "://" in name else str(tmp_path / name)])


def test_each_process_opens_files_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys.modules[OpenShards.__module__], "MOST", 2)
    shards = OpenShards(find_shards(files(tmp_path, 4)), tmp_path / "cache", None)
    assert [shards.read(number, 1, 2) for number in (0, 1, 2, 3, 0)] == [bytes([n, n]) for n in (0, 1, 2, 3, 0)]
    shards.read_ahead(1)
    kept = dict(shards._descriptors)
    assert list(kept) == [0, 1]  # the last used
    copy = pickle.loads(pickle.dumps(shards))  # noqa: S301, its own
    assert not copy._descriptors
    assert copy.read(2, 0, 1) == b"\x02"
    monkeypatch.setattr(os, "getpid", lambda: 0)  # as in a forked process
    assert shards.read(0, 0, 1) == b"\0"
    assert list(shards._descriptors) == [0]


def test_a_shard_that_changed_is_not_read(tmp_path: Path):
    shards = find_shards(files(tmp_path, 2))
    (tmp_path / "0.tar").write_bytes(bytes(11))
    (tmp_path / "1.tar").unlink()
    reader = OpenShards(shards, tmp_path, None)
    with pytest.raises(VSEError, match=r"0.tar: has changed since this run began"):
        reader.read(0, 0, 1)
    with pytest.raises(VSEError, match=r"1.tar: cannot be read \(.*No such file"):
        reader.read(1, 0, 1)
    with pytest.raises(VSEError, match="10 of 20 bytes at 0, is it cut"):
        OpenShards(find_shards(files(tmp_path, 1)), tmp_path, None).read(0, 0, 20)


def test_objects_of_a_store_are_copied_once_and_the_oldest_copies_removed(tmp_path: Path):
    store = fsspec.filesystem("memory")
    for number in range(4):
        store.pipe(f"/bucket/{number}.tar", bytes([number]) * 10)
    shards = find_shards(["memory://bucket/{0..3}.tar"])
    assert [(shard.path, shard.size, shard.is_local) for shard in shards[:1]] == [("memory:///bucket/0.tar", 10, False)]
    with opened(shards[3]) as read:
        assert read(2, 3) == b"\3\3\3"
    reader = OpenShards(shards, tmp_path, 2)
    assert [reader.read(number, 3, 2) for number in range(4)] == [bytes([number, number]) for number in range(4)]
    assert len(list(tmp_path.glob("*.tar"))) == 2
    store.rm("/bucket", recursive=True)
    assert reader.read(0, 0, 1) == b"\0"  # open still
    assert OpenShards(shards, tmp_path, 2).read(3, 0, 1) == b"\3"
    with pytest.raises(VSEError, match="cannot be read"):
        OpenShards(shards, tmp_path, 2).read(1, 0, 1)
