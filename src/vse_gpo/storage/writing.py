"""Files that are whole or not there: a crash or a full disk never costs what was there before."""

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
    """A file beside the path that takes its place only when all of it is on the disk.

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
    except (OSError, RuntimeError) as error:  # torch.save turns the one into the other
        with suppress(OSError):
            part.unlink()
        raise VSEError(f"{path}: cannot be written ({first_line(error)}); what was there before is kept") from error


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """A folder beside, which takes the place of a new one only when all that it is to hold is written.

    Raises:
        VSEError: if the folder has something in it, or cannot be written.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise VSEError(f"{folder}: exists and is not empty, expected a new folder")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    except OSError as error:
        raise VSEError(f"{folder}: cannot be written ({first_line(error)})") from error
    try:
        yield part
        for path in (part, *part.rglob("*")):  # what temporary folders and safetensors make is the owner's alone
            path.chmod(0o755 if path.is_dir() else 0o644)
        part.replace(folder)
    except (OSError, SafetensorError) as error:
        raise VSEError(f"{folder}: cannot be written ({first_line(error)})") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def write_text(path: Path, text: str) -> None:
    """Write a text, whole or not at all."""
    with whole_file(path) as file:
        file.write(text.encode())


def folder_size(folder: Path) -> int:
    """Bytes of all files under a folder; those that vanish meanwhile do not count."""
    total = 0
    for path in folder.rglob("*"):
        with suppress(OSError):
            total += path.lstat().st_size
    return total
