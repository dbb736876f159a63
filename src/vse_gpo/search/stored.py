"""The files of an index: what is in its folder, and how a new generation of it is written."""

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float

from vse_gpo.errors import VSEError, first_line
from vse_gpo.retrieval.similarity import check_directions
from vse_gpo.search.items import Compaction, Records
from vse_gpo.search.kinds import Kind, faiss, recall_against_exact, searched
from vse_gpo.storage.writing import checksum, whole_file, write_text

SETTINGS = "index.json"
DAMAGED = "python -m vse_gpo.index makes it again in a new folder"


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
    kind: str
    recall: float | None = None  # at 10, in percent, of an approximate index against exact search
    generation: int = 0  # in the names of the other files: an update writes new ones before this file names them
    checksums: dict[str, int] | None = None  # of the other files; indexes of earlier versions have none
    items: dict[str, Any] | None = None  # how its sets of items are stored, as ``Compaction`` takes it; None: no sets

    @property
    def compaction(self) -> Compaction | None:
        """How the sets of items are stored; None if there are none."""
        return None if self.items is None else Compaction(**self.items)


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
        VSEError: if there is no index, or its settings are damaged.
    """
    try:
        settings: Any = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
        found = IndexSettings(**settings)
        found.compaction  # noqa: B018, refuses others
    except (OSError, ValueError, TypeError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or first_line(error)
        raise VSEError(f"index={folder}: no index ({reason.lower()}); python -m vse_gpo.index makes one") from error
    names = (found.images, found.model, found.fingerprint, found.kind)
    checksums = {} if found.checksums is None else found.checksums
    if not (
        type(found.generation) is int
        and all(isinstance(name, str) for name in names)
        and isinstance(checksums, dict)
        and checksums.keys() <= FILES.keys()
    ):
        raise VSEError(f"{folder}: a damaged index, its settings are of another kind; {DAMAGED}")
    return found


def write_index(
    folder: Path,
    *,
    pictures: Sequence[Picture],
    embeddings: Iterable[Float[np.ndarray, "_ dim"]],
    settings: IndexSettings,
    kind: Kind,
    random: np.random.Generator,
    records: Iterable[Records] = (),
) -> IndexSettings:
    """Write an index, or its next generation: the previous one stays valid until the last file is in place.

    Args:
        folder: folder of the index, new or one that holds an index.
        pictures: image of each embedding, in order.
        embeddings: all embeddings, in blocks.
        settings: settings of the index; the recall and the generation are filled in.
        kind: makes the approximate index, if any.
        random: draws the samples to find lists and to measure recall.
        records: set of items of each image, in order and in blocks; nothing if the index has no sets.

    Raises:
        VSEError: if an embedding is NaN or zero, or the index cannot be written.
    """
    exact: Any = None
    for block in embeddings:
        check_directions("embedding of image", torch.from_numpy(block))
        if exact is None:
            exact = faiss.IndexFlatIP(block.shape[1])
        exact.add(block)
    approximate = kind.build(exact, random)
    recall = None if approximate is None else recall_against_exact(exact, searched(exact, approximate), random)
    generation = 1 + (read_settings(folder).generation if is_index(folder) else 0)
    written = IndexSettings(**(asdict(settings) | {"recall": recall, "generation": generation}))
    try:
        written = _write_files(folder, written, exact, approximate, pictures, records)
    except VSEError:
        for name in FILES:
            file_of(folder, name, written).unlink(missing_ok=True)
        raise
    for name, suffix in FILES.items():
        for path in folder.glob(f"{name}-*{suffix}"):
            if path != file_of(folder, name, written):
                path.unlink()
    return written


def _write_files(
    folder: Path,
    settings: IndexSettings,
    exact: Any,
    approximate: Any,
    pictures: Sequence[Picture],
    records: Iterable[Records],
) -> IndexSettings:
    """Write the files of a generation, and last the settings that name it; returns them with checksums."""
    for name, index in (("exact", exact), ("approximate", approximate)):
        if index is not None:
            with whole_file(file_of(folder, name, settings)) as file:
                faiss.write_index(index, faiss.PyCallbackIOWriter(file.write))  # type: ignore[attr-defined]
    if settings.items is not None:
        write_records(file_of(folder, "items", settings), records, len(pictures))
    write_text(file_of(folder, "pictures", settings), json.dumps(pictures))
    paths = {name: file_of(folder, name, settings) for name in FILES}
    checksums = {name: checksum(path) for name, path in paths.items() if path.exists()}
    settings = replace(settings, checksums=checksums)
    write_text(folder / SETTINGS, json.dumps(asdict(settings), indent=1) + "\n")
    return settings


def write_records(path: Path, blocks: Iterable[Records], count: int) -> None:
    """Write blocks of records as one array of NumPy's, without having all of them in memory.

    Args:
        path: file.
        blocks: at least one.
        count: number of all records.

    Raises:
        VSEError: if it cannot be written.
    """
    waiting: Iterator[Records] = iter(blocks)
    first = next(waiting)
    header = {"descr": np.lib.format.dtype_to_descr(first.dtype), "fortran_order": False, "shape": (count,)}
    with whole_file(path) as file:
        np.lib.format.write_array_header_2_0(file, header)
        for block in chain([first], waiting):
            file.write(block.tobytes())


FILES = {"exact": ".faiss", "approximate": ".faiss", "pictures": ".json", "items": ".npy"}


def file_of(folder: Path, name: str, settings: IndexSettings) -> Path:
    """Path of one of the files of an index, by its key in ``FILES``."""
    return folder / f"{name}-{settings.generation}{FILES[name]}"
