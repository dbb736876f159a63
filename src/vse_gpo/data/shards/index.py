"""The index of a shard: where its images lie and what is said of them, kept in a file for the next start."""

import hashlib
import os
import zipfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vse_gpo.data.decoding import image_from
from vse_gpo.data.packed import PackedTexts
from vse_gpo.data.shards.members import members
from vse_gpo.data.shards.places import Shard, opened
from vse_gpo.data.shards.samples import BrokenSample, ShardSample, samples
from vse_gpo.errors import VSEError
from vse_gpo.storage.writing import whole_file

FORM = 1  # of the files; others are made again


@dataclass(frozen=True, kw_only=True)
class ShardIndex:
    """The samples of a shard."""

    names: PackedTexts
    offsets: npt.NDArray[np.int64]  # of each image's bytes
    sizes: npt.NDArray[np.int64]
    counts: npt.NDArray[np.int64]  # captions of each
    captions: PackedTexts
    broken: PackedTexts  # a line for each sample that is left out


class IndexFiles:
    """Where the index of a shard is kept: beside it or, where that folder cannot be written, in a cache.

    Args:
        shard: the tar.
        stem: begins the names of its samples.
        cache: folder for indices.
        decode: decode every image, and leave out those that cannot be; such an index has files of its own.
    """

    def __init__(self, shard: Shard, stem: str, cache: Path, *, decode: bool) -> None:
        self.shard = shard
        self.stem = stem
        self.decode = decode
        ending = ".decoded.npz" if decode else ".index.npz"
        name = hashlib.sha256(shard.path.encode()).hexdigest()[:16] + ending
        self.files = [*([Path(shard.path + ending)] if shard.is_local else []), cache / name]
        self._known = {"form": str(FORM), "state": shard.state, "stem": stem}

    def kept(self) -> ShardIndex | None:
        """The index of an earlier start; None if there is none of this state of the shard."""
        found = (_read(file, self._known) for file in self.files)
        return next((index for index in found if index is not None), None)

    def make(self) -> ShardIndex:
        """Index the shard, and keep the index.

        Raises:
            VSEError: if the shard is missing, truncated or no tar.
        """
        index = _made(self.shard, self.stem, decode=self.decode)
        for file in self.files:
            if os.access(file.parent, os.W_OK) or file == self.files[-1]:
                with suppress(VSEError):  # it is made again at the next start
                    _write(file, index, self._known)
                    break
        return index


def _made(shard: Shard, stem: str, *, decode: bool) -> ShardIndex:
    with opened(shard) as read:
        files = members(read, shard.size, shard.path)
        found = list(samples(files, read, stem))
        if decode:
            with ThreadPoolExecutor(os.cpu_count()) as threads:
                found = list(threads.map(lambda one: _decoded(one, read), found))
    whole = [one for one in found if isinstance(one, ShardSample)]
    return ShardIndex(
        names=PackedTexts.of(one.name for one in whole),
        offsets=np.array([one.offset for one in whole], dtype=np.int64),
        sizes=np.array([one.size for one in whole], dtype=np.int64),
        counts=np.array([len(one.captions) for one in whole], dtype=np.int64),
        captions=PackedTexts.of(caption for one in whole for caption in one.captions),
        broken=PackedTexts.of(one.line for one in found if isinstance(one, BrokenSample)),
    )


def _decoded(one: ShardSample | BrokenSample, read: Any) -> ShardSample | BrokenSample:
    if isinstance(one, ShardSample):
        try:
            image_from(read(one.offset, one.size), one.name)
        except VSEError as error:
            return BrokenSample(str(error))
    return one


def _write(file: Path, index: ShardIndex, known: dict[str, str]) -> None:
    arrays: dict[str, Any] = dict(known)
    for name, value in vars(index).items():
        packed = isinstance(value, PackedTexts)
        arrays |= {f"{name}_data": value.data, f"{name}_bounds": value.bounds} if packed else {name: value}
    with whole_file(file) as output:
        np.savez(output, **arrays)


def _read(file: Path, known: dict[str, str]) -> ShardIndex | None:
    """The index in a file; None if it is missing, damaged, or of another shard or state of it."""
    try:
        with file.open("rb") as source, np.load(source, allow_pickle=False) as arrays:
            if any(str(arrays[name]) != value for name, value in known.items()):
                return None
            found: dict[str, Any] = {name: arrays[name] for name in ("offsets", "sizes", "counts")}
            for name in ("names", "captions", "broken"):
                found[name] = PackedTexts(arrays[f"{name}_data"], arrays[f"{name}_bounds"])
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    return ShardIndex(**found)
