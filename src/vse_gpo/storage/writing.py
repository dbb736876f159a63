"""Atomic writes of files and folders: a crash or a full disk never destroys what was there before."""

import errno
import fcntl
import os
import secrets
import shutil
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from glob import escape
from pathlib import Path
from stat import S_IMODE
from typing import BinaryIO

from safetensors import SafetensorError

from vse_gpo.errors import VSEError, first_line

PART = ".part"  # ends the name of what is not complete


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """Open a temporary file that replaces the path only when it is completely on disk.

    Raises:
        VSEError: if it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _part_of(path, lambda part: part.touch(exist_ok=False)) as part:
            with suppress(FileNotFoundError):
                shutil.copymode(path, part)
            with part.open("wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
    except (OSError, RuntimeError) as error:  # torch.save turns the first into the second, and then misses its bytes
        cause = error.__context__ if isinstance(error.__context__, OSError) else error
        raise VSEError(f"{path}: cannot be written ({first_line(cause)}); what was there before is kept") from error


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """Make a temporary folder that becomes the new folder only when everything in it is written.

    Raises:
        VSEError: if the folder is not empty or cannot be written.
    """
    try:
        check_new(folder)
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _part_of(folder, Path.mkdir) as part:
            yield part
            mode = S_IMODE(part.stat().st_mode)  # as the umask has it; safetensors keeps its files private to the owner
            for path in part.rglob("*"):
                path.chmod(mode if path.is_dir() else mode & 0o666)
            part.replace(folder)
    except (OSError, SafetensorError) as error:
        raise VSEError(f"{folder}: cannot be written ({first_line(error)})") from error


def check_new(folder: Path) -> None:
    """Refuse a folder that ``whole_folder`` could not make, before the work that fills it.

    Raises:
        VSEError: if something is there.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise VSEError(f"{folder}: exists and is not empty, expected a new folder")


def write_text(path: Path, text: str) -> None:
    """Write a text file, completely or not at all."""
    with whole_file(path) as file:
        file.write(text.encode())


def write_together(texts: Mapping[Path, str]) -> None:
    """Write text files: all of them are on the disk before the first gets its name."""
    with ExitStack() as whole:
        for path, text in texts.items():
            file = whole.enter_context(whole_file(path))
            file.write(text.encode())
            file.flush()


def reserve(file: BinaryIO, size: int) -> None:
    """Give a file its size and its space on the disk, so that a disk that is too small is told now and not half-way.

    A file system that cannot reserve space tells when it is full, by the write that no longer fits.

    Raises:
        OSError: if there is no such space.
    """
    file.truncate(size)
    try:
        os.posix_fallocate(file.fileno(), 0, size)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
            raise OSError(error.errno, f"{error.strerror}, {size / 1e6:,.0f} MB are needed") from error


def checksum(path: Path) -> int:
    """CRC-32 of a file, which any flipped bit changes; a gigabyte takes about 0.3 s."""
    found = 0
    with path.open("rb") as file:
        while block := file.read(2**20):
            found = zlib.crc32(block, found)
    return found


def folder_size(folder: Path) -> int:
    """Bytes of all files under a folder; those that vanish meanwhile do not count."""
    total = 0
    for path in folder.rglob("*"):
        with suppress(OSError):
            total += path.lstat().st_size
    return total


# parts: what becomes a file or folder when it is complete


@contextmanager
def _part_of(path: Path, make: Callable[[Path], None]) -> Iterator[Path]:
    """Make a file or folder beside the path under a name of its own; what is still there at the end is removed.

    It is locked meanwhile: so the next one can tell what a killed process has left, and removes it.
    """
    name = f".{path.name[:40]}."
    for left in path.parent.glob(f"{escape(name)}*{PART}"):
        with suppress(OSError), _opened(left) as descriptor:
            if _locked(descriptor):
                _remove(left)
    part = path.with_name(f"{name}{secrets.token_hex(4)}{PART}")
    make(part)
    try:
        with _opened(part) as descriptor:
            _locked(descriptor)
            yield part
    finally:
        _remove(part)


@contextmanager
def _opened(part: Path) -> Iterator[int]:
    descriptor = os.open(part, os.O_RDONLY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _locked(descriptor: int) -> bool:
    """Whether this process holds it now: no other one does, and the file system knows locks."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _remove(part: Path) -> None:
    if part.is_dir():
        shutil.rmtree(part, ignore_errors=True)
    else:
        with suppress(OSError):
            part.unlink()
