"""The settings of an index: the file that is written last, and names the version of the table that a search sees."""

import json
import os
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from shlex import quote
from typing import Any, NamedTuple

from vse_gpo.errors import VSEError, first_line
from vse_gpo.search.items import Compaction
from vse_gpo.storage.writing import write_text

SETTINGS = "index.json"
STORES = ("s3://", "gs://", "az://")  # addresses of object stores


class Picture(NamedTuple):
    """An image as it was when it was embedded."""

    file: str  # under the image folder, with forward slashes
    size: int  # bytes
    modified: int  # nanoseconds


@dataclass(frozen=True, kw_only=True)
class IndexSettings:
    """What ``index.json`` holds."""

    images: str  # the folder
    model: str  # a file, a folder or a hub id, as ``load_model`` takes it
    tokenizer: str | None
    vocabulary: str | None
    fingerprint: str  # of the model
    version: int  # of the table
    approximate: dict[str, int | None] | None = None  # settings of the approximate index; None: it is exact
    recall: float | None = None  # at 10, in percent, of an approximate index against exact search
    table: str | None = None  # address of its table in an object store; None: the table lies in the index's folder
    items: dict[str, Any] | None = None  # how its sets of items are stored, as ``Compaction`` takes it; None: no sets

    @property
    def compaction(self) -> Compaction | None:
        """How the sets of items are stored; None if there are none."""
        return None if self.items is None else Compaction(**self.items)


def is_stored_away(place: str) -> bool:
    """Whether a place is in an object store."""
    return place.startswith(STORES)


def leads_out(file: str) -> bool:
    """Whether a stored name points outside the image folder."""
    parts = file.split("/")  # for millions of names, ``Path`` would take seconds
    drive = os.name == "nt" and Path(file).is_absolute()
    return drive or not parts[0] or parts[-1] in ("", ".") or ".." in parts or "\0" in file


def is_index(folder: Path) -> bool:
    """Whether a folder holds an index."""
    return (folder / SETTINGS).is_file()


def read_settings(folder: Path) -> IndexSettings:
    """Read the settings of the index in a folder.

    Raises:
        VSEError: if there is no index, its settings are damaged, or an earlier version of this program wrote it.
    """
    try:
        settings: Any = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
        found = IndexSettings(**settings)
        found.compaction  # noqa: B018, refuses others
    except (OSError, ValueError, TypeError) as error:
        refuse_former(folder)
        reason = (error.strerror if isinstance(error, OSError) else None) or first_line(error)
        raise VSEError(f"index={folder}: no index ({reason.lower()}); python -m vse_gpo.index makes one") from error
    names = (found.images, found.model, found.fingerprint)
    if not (
        type(found.version) is int
        and found.version > 0
        and all(isinstance(name, str) for name in names)
        and isinstance(found.approximate, dict | None)
        and (found.table is None or (isinstance(found.table, str) and is_stored_away(found.table)))
    ):
        raise VSEError(
            f"{folder}: a damaged index, its settings are of another kind; python -m vse_gpo.index makes it again in a "
            "new folder"
        )
    return found


def refuse_former(folder: Path) -> None:
    """Refuse an index whose embeddings lie in files of FAISS.

    Args:
        folder: of the index.

    Raises:
        VSEError: if it is one; it says how to build it again.
    """
    if any(folder.glob("exact-*.faiss")):
        known: Any = {}
        with suppress(OSError, ValueError):
            known = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
        names = ("images", "model", "tokenizer", "vocabulary")
        given = {name: known.get(name) for name in names} if isinstance(known, dict) else {}
        typed = " ".join(f"{name}={quote(str(value))}" for name, value in given.items() if value is not None)
        raise VSEError(
            f"index={folder}: made by an earlier version, with FAISS, which is not read any more; build it again in a "
            f"new folder: python -m vse_gpo.index {typed} out=NEW_FOLDER"
        )


def write_settings(folder: Path, settings: IndexSettings) -> None:
    """Let searches see the version of the table that the settings name.

    Args:
        folder: of the index.
        settings: of the index.

    Raises:
        VSEError: if they cannot be written.
    """
    write_text(folder / SETTINGS, json.dumps(asdict(settings), indent=1) + "\n")
