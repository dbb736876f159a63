"""Atomic writes of files and folders: a crash or a full disk never destroys what was there before."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from safetensors import SafetensorError

from vse_gpo.errors import VSEError, first_line


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """Open a temporary file that replaces the path only when it is completely on disk.

    Raises:
        VSEError: if it cannot be written.
    """
    part = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except (OSError, RuntimeError) as error:  # torch.save turns OSError into RuntimeError
        with suppress(OSError):
            part.unlink()
        raise VSEError(f"{path}: cannot be written ({first_line(error)}); what was there before is kept") from error


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """Make a temporary folder that becomes the new folder only when everything in it is written.

    Raises:
        VSEError: if the folder is not empty or cannot be written.
    """
    check_new(folder)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    except OSError as error:
        raise VSEError(f"{folder}: cannot be written ({first_line(error)})") from error
    try:
        yield part
        for path in (part, *part.rglob("*")):  # temporary folders and safetensors are private to the owner
            path.chmod(0o755 if path.is_dir() else 0o644)
        part.replace(folder)
    except (OSError, SafetensorError) as error:
        raise VSEError(f"{folder}: cannot be written ({first_line(error)})") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


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


def folder_size(folder: Path) -> int:
    """Bytes of all files under a folder; those that vanish meanwhile do not count."""
    total = 0
    for path in folder.rglob("*"):
        with suppress(OSError):
            total += path.lstat().st_size
    return total
