"""Files that are whole or not there: a crash or a full disk never costs what was there before."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

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
        part.unlink(missing_ok=True)
        raise VSEError(f"{path}: cannot be written ({first_line(error)}); what was there before is kept") from error


def write_text(path: Path, text: str) -> None:
    """Write a text, whole or not at all."""
    with whole_file(path) as file:
        file.write(text.encode())
