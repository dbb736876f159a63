"""An index of images: a folder with their embeddings, their names, and where their model is."""

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from vse_gpo.checkpoints.sources import load_model
from vse_gpo.errors import VSEError, first_line
from vse_gpo.model import VSE
from vse_gpo.retrieval.similarity import check_directions
from vse_gpo.search.kinds import Kind, faiss, recall_against_exact, searched
from vse_gpo.search.scan import DeviceScan
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


class Index:
    """Images that can be found by an embedding.

    Args:
        exact: every embedding (n, E).
        approximate: proposes candidates; None if every embedding is compared.
        pictures: image of each row.
        settings: settings of the index.
    """

    def __init__(
        self,
        exact: faiss.IndexFlatIP,
        approximate: faiss.Index | None,
        pictures: Sequence[Picture],
        settings: IndexSettings,
    ) -> None:
        self.exact = exact
        self.pictures = pictures
        self.settings = settings
        self._searched: faiss.Index | DeviceScan = searched(exact, approximate)

    @classmethod
    def load(cls, folder: str | Path) -> "Index":
        """Load the index in a folder that ``write_index`` wrote; embeddings stay on disk until they are needed.

        Raises:
            VSEError: if there is no index, it is damaged, or a name in it points outside the image folder.
        """
        folder = Path(folder).expanduser()
        settings = read_settings(folder)
        try:
            for name, expected in (settings.checksums or {}).items():
                if checksum(_file(folder, name, settings)) != expected:
                    raise VSEError(f"{folder}: a damaged index, its {name} have changed on the disk; {DAMAGED}")
            names = json.loads(_file(folder, "pictures", settings).read_text(encoding="utf-8"))
            pictures = [Picture(*row) for row in names]
            exact = faiss.read_index(str(_file(folder, "exact", settings)), faiss.IO_FLAG_MMAP_IFC)
            approximate = None
            if settings.recall is not None:
                approximate = faiss.read_index(str(_file(folder, "approximate", settings)))
        except VSEError:
            raise
        except (OSError, ValueError, TypeError, RuntimeError) as error:  # FAISS raises the last
            raise VSEError(f"{folder}: a damaged index ({first_line(error)}); {DAMAGED}") from error
        shapes = {(one.ntotal, one.d) for one in (exact, approximate) if one is not None}
        if not isinstance(exact, faiss.IndexFlatIP) or shapes != {(len(pictures), exact.d)}:
            raise VSEError(f"{folder}: a damaged index, its embeddings and names do not fit each other; {DAMAGED}")
        if outside := [one.file for one in pictures if leads_out(one.file)]:
            raise VSEError(
                f"{folder}: refused, it names {outside[0]!r}, which leads out of its image folder; {DAMAGED}"
            )
        return cls(exact, approximate, pictures, settings)

    def __len__(self) -> int:
        return len(self.pictures)

    @property
    def width(self) -> int:
        """Width of an embedding."""
        return self.exact.d

    def search(
        self, embeddings: Float[Tensor, "queries dim"], top: int = 10
    ) -> tuple[list[list[float]], list[list[str]]]:
        """Scores and files for each query, best first; an approximate index may find fewer than ``top``.

        Raises:
            VSEError: if ``top`` is not positive, or the embeddings come from another model, or are NaN or zero.
        """
        if top < 1:
            raise VSEError(f"top={top}, expected 1 or more")
        if embeddings.shape[1] != self.width:
            raise VSEError(f"embeddings of width {embeddings.shape[1]}, the index holds {self.width}; {REMEDY}")
        check_directions("query", embeddings)
        scores, rows = self._searched.search(
            np.ascontiguousarray(embeddings.numpy(), dtype=np.float32), min(top, len(self))
        )
        found = [row >= 0 for row in rows]
        return (
            [line[there].tolist() for line, there in zip(scores, found, strict=True)],
            [[self.pictures[row].file for row in line[there]] for line, there in zip(rows, found, strict=True)],
        )

    def search_on(self, device: torch.device) -> "Index":
        """Search on a GPU from now on, with the same answers; an approximate index stays on the CPU."""
        if device.type != "cpu" and self.settings.recall is None:
            self._searched = DeviceScan(self.exact, self.embeddings(), device)
        return self

    def embeddings(self) -> Float[np.ndarray, "pictures dim"]:
        """Embeddings of all images, as they are on disk; do not keep them longer than the index."""
        view: Any = faiss.rev_swig_ptr(self.exact.get_xb(), len(self) * self.width)
        return view.reshape(len(self), self.width)

    def path(self, file: str) -> Path:
        """Path of an image.

        Raises:
            VSEError: if the name points outside the image folder.
        """
        home = Path(self.settings.images)
        place = home / file
        if leads_out(file) or not place.resolve().is_relative_to(home.resolve()):
            raise VSEError(f"{file!r} leads out of {home}")
        return place

    def open_model(
        self, source: str | None = None, *, tokenizer: str | None = None, vocabulary: str | None = None
    ) -> VSE:
        """The model that the index was made with.

        Args:
            source: where the model is now; None takes the place that the index remembers.
            tokenizer, vocabulary: see ``load_model``.

        Raises:
            VSEError: if the model is missing or is another one.
        """
        known = self.settings
        model = load_model(
            source or known.model,
            tokenizer=tokenizer or known.tokenizer,
            vocabulary=vocabulary or known.vocabulary,
        )
        self.check_model(model.fingerprint(), source or known.model)
        return model

    def check_model(self, fingerprint: str, source: str) -> None:
        """Refuse a model other than the one that the index was made with.

        Raises:
            VSEError: if the fingerprints differ.
        """
        if fingerprint != self.settings.fingerprint:
            raise VSEError(
                f"{source} is another model ({fingerprint[:12]}) than the index was made with "
                f"({self.settings.fingerprint[:12]}, {self.settings.model}); {REMEDY}"
            )


REMEDY = "give the index's own model by model=, or make a new index by python -m vse_gpo.index in a new folder"


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
) -> IndexSettings:
    """Write an index, or its next generation: the previous one stays valid until the last file is in place.

    Args:
        folder: folder of the index, new or one that holds an index.
        pictures: image of each embedding, in order.
        embeddings: all embeddings, in blocks.
        settings: settings of the index; the recall and the generation are filled in.
        kind: makes the approximate index, if any.
        random: draws the samples to find lists and to measure recall.

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
        written = _write_files(folder, written, exact, approximate, pictures)
    except VSEError:
        for name in FILES:
            _file(folder, name, written).unlink(missing_ok=True)
        raise
    for name, suffix in FILES.items():
        for path in folder.glob(f"{name}-*{suffix}"):
            if path != _file(folder, name, written):
                path.unlink()
    return written


def _write_files(
    folder: Path, settings: IndexSettings, exact: Any, approximate: Any, pictures: Sequence[Picture]
) -> IndexSettings:
    """Write the files of a generation, and last the settings that name it; returns them with checksums."""
    for name, index in (("exact", exact), ("approximate", approximate)):
        if index is not None:
            with whole_file(_file(folder, name, settings)) as file:
                faiss.write_index(index, faiss.PyCallbackIOWriter(file.write))  # type: ignore[attr-defined]
    write_text(_file(folder, "pictures", settings), json.dumps(pictures))
    paths = {name: _file(folder, name, settings) for name in FILES}
    checksums = {name: checksum(path) for name, path in paths.items() if path.exists()}
    settings = replace(settings, checksums=checksums)
    write_text(folder / SETTINGS, json.dumps(asdict(settings), indent=1) + "\n")
    return settings


FILES = {"exact": ".faiss", "approximate": ".faiss", "pictures": ".json"}


def _file(folder: Path, name: str, settings: IndexSettings) -> Path:
    return folder / f"{name}-{settings.generation}{FILES[name]}"
