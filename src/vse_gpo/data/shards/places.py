"""Where shards lie: files, or objects in a store that fsspec reads, and what is read of them."""

import fcntl
import hashlib
import os
import shutil
import weakref
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import fsspec

from vse_gpo.data.shards.members import ReadAt
from vse_gpo.errors import VSEError, first_line
from vse_gpo.storage.writing import whole_file

MOST = 256  # files that a process keeps open
AT_ONCE = 2**24  # bytes that are asked of a store at a time


@dataclass(frozen=True)
class Shard:
    """A tar: a file, or an object in a store.

    Args:
        path: of the file, or ``PROTOCOL://…``.
        size: in bytes.
        state: changes when the tar does: size and time of a file, the store's own mark of an object.
    """

    path: str
    size: int
    state: str

    @property
    def is_local(self) -> bool:
        """Whether it is a file of this machine."""
        return "://" not in self.path


def expand(pattern: str) -> list[str]:
    """Names that a pattern stands for: ``{000..099}`` for numbers with as many digits, ``{a,b}`` for words.

    Raises:
        VSEError: if a brace is not closed, or holds something else.
    """
    begin, brace, rest = pattern.partition("{")
    if not brace:
        return [pattern]
    inside, brace, rest = rest.partition("}")
    first, dots, last = inside.partition("..")
    if dots and first.isdecimal() and last.isdecimal() and int(first) <= int(last):
        words = [f"{number:0{len(first)}d}" for number in range(int(first), int(last) + 1)]
    elif brace and not dots and inside:
        words = inside.split(",")
    else:
        raise VSEError(f"{pattern}: cannot be read, expected {{000..099}} or {{a,b}} in braces")
    return [begin + word + end for word, end in product(words, expand(rest))]


def find_shards(patterns: Sequence[str]) -> list[Shard]:
    """The shards that patterns stand for; ``*`` stands for any part of a name.

    Raises:
        VSEError: if one is missing, or nothing matches.
    """
    shards: list[Shard] = []
    for pattern in (one for many in patterns for one in expand(many)):
        try:
            system, path = fsspec.core.url_to_fs(pattern if "://" in pattern else str(Path(pattern).expanduser()))
            places = sorted(system.glob(path)) if "*" in pattern else [path]
            if not places:
                raise VSEError(f"{pattern}: no such shard, expected tar files")
            shards += [_shard(system, place, is_local="://" not in pattern) for place in places]
        except (OSError, ValueError, ImportError) as error:
            if isinstance(error, VSEError):
                raise
            reason = "no such shard" if isinstance(error, FileNotFoundError) else first_line(error)
            raise VSEError(f"{pattern}: {reason}, expected a tar file") from error
    return shards


def _shard(system: Any, place: str, *, is_local: bool) -> Shard:
    if is_local:
        found = Path(place).stat()
        return Shard(place, found.st_size, _state(found))
    found = system.info(place)
    return Shard(system.unstrip_protocol(place), int(found["size"]), str(system.ukey(place)))


def _state(found: os.stat_result) -> str:
    return f"{found.st_size} bytes of {found.st_mtime_ns}"


@contextmanager
def opened(shard: Shard) -> Iterator[ReadAt]:
    """What reads a shard from its beginning to its end.

    Raises:
        VSEError: if it cannot be read.
    """
    try:
        if shard.is_local:
            descriptor = os.open(shard.path, os.O_RDONLY)
            try:
                yield lambda offset, size: os.pread(descriptor, size, offset)
            finally:
                os.close(descriptor)
            return
        with fsspec.open(shard.path, block_size=AT_ONCE, cache_type="readahead").open() as file:

            def read(offset: int, size: int) -> bytes:
                file.seek(offset)
                return bytes(file.read(size))

            yield read
    except OSError as error:
        raise VSEError(f"{shard.path}: cannot be read ({first_line(error)})") from error


class OpenShards:
    """Reads parts of shards in any order. Each process opens its own files; objects are copied into the cache first.

    Args:
        shards: the tars.
        cache: folder for copies of what does not lie on this machine.
        kept: copies that stay there, the last used; None keeps all.
    """

    def __init__(self, shards: Sequence[Shard], cache: Path, kept: int | None) -> None:
        self.shards = shards
        self.cache = cache
        self.kept = kept
        self._begin()

    def _begin(self) -> None:
        self._process = os.getpid()
        self._descriptors: OrderedDict[int, int] = OrderedDict()
        weakref.finalize(self, _close, self._descriptors)

    def read(self, number: int, offset: int, size: int) -> bytes:
        """Bytes of a shard.

        Args:
            number: of the shard.
            offset, size: where they lie.

        Raises:
            VSEError: if it cannot be read, or has changed since it was indexed.
        """
        if self._process != os.getpid():  # forked: what is open belongs to the first process too
            self._begin()
        descriptor = self._descriptors.get(number)
        if descriptor is None:
            descriptor = self._open(number)
        else:
            self._descriptors.move_to_end(number)
        data = os.pread(descriptor, size, offset)
        if len(data) != size:
            raise VSEError(f"{self.shards[number].path}: {len(data)} of {size} bytes at {offset:,}, is it cut?")
        return data

    def _open(self, number: int) -> int:
        shard = self.shards[number]
        try:
            descriptor = os.open(shard.path if shard.is_local else self._copied(shard), os.O_RDONLY)
        except OSError as error:
            raise VSEError(f"{shard.path}: cannot be read ({first_line(error)})") from error
        if shard.is_local and _state(os.fstat(descriptor)) != shard.state:
            os.close(descriptor)
            raise VSEError(f"{shard.path}: has changed since this run began; start again")
        self._descriptors[number] = descriptor
        if len(self._descriptors) > MOST:
            os.close(self._descriptors.popitem(last=False)[1])
        return descriptor

    def read_ahead(self, number: int) -> None:
        """Let the system read a whole shard, in one piece, while the process goes on."""
        if number not in self._descriptors or self._process != os.getpid():
            self.read(number, 0, 0)
            os.posix_fadvise(self._descriptors[number], 0, 0, os.POSIX_FADV_WILLNEED)

    def _copied(self, shard: Shard) -> Path:
        """The copy of an object, made by one process while the others wait."""
        name = hashlib.sha256(f"{shard.path} {shard.state}".encode()).hexdigest()[:16]
        copy = self.cache / f"{name}.tar"
        self.cache.mkdir(parents=True, exist_ok=True)
        with copy.with_suffix(".lock").open("wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not copy.is_file():
                with fsspec.open(shard.path).open() as source, whole_file(copy) as target:
                    shutil.copyfileobj(source, target, AT_ONCE)
            os.utime(copy)  # used last
        self._forget(copy)
        return copy

    def _forget(self, newest: Path) -> None:
        """Remove the copies that were not used for longest; whoever reads one still can."""
        if self.kept is None:
            return
        with suppress(OSError):  # another process removes the same
            copies = sorted(self.cache.glob("*.tar"), key=lambda path: path.stat().st_mtime)
            for copy in copies[: max(0, len(copies) - self.kept)]:
                if copy != newest:
                    copy.unlink()

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what is open, which no other process has."""
        return {"shards": self.shards, "cache": self.cache, "kept": self.kept}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ = dict(state)
        self._begin()


def _close(descriptors: OrderedDict[int, int]) -> None:
    while descriptors:
        with suppress(OSError):
            os.close(descriptors.popitem()[1])
