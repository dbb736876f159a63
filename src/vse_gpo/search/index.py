"""An index of images: a folder with their embeddings, their names, and where their model is."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from vse_gpo.checkpoints.own import load_own
from vse_gpo.errors import VSEError, first_line
from vse_gpo.model import VSE
from vse_gpo.retrieval.similarity import check_directions
from vse_gpo.search.items import ItemSets, Records, check_records, check_sets, sets_of
from vse_gpo.search.kinds import faiss, searched
from vse_gpo.search.scan import DeviceScan
from vse_gpo.search.stored import DAMAGED, IndexSettings, Picture, file_of, leads_out, read_settings
from vse_gpo.storage.writing import checksum


class Hit(NamedTuple):
    """A found image."""

    row: int  # in the index
    file: str
    score: float


class Index:
    """Images that can be found by an embedding.

    Args:
        exact: every embedding (n, E).
        approximate: proposes candidates; None if every embedding is compared.
        pictures: image of each row.
        settings: settings of the index.
        records: set of items of each row; None for an index without sets.
    """

    def __init__(
        self,
        exact: faiss.IndexFlatIP,
        approximate: faiss.Index | None,
        pictures: Sequence[Picture],
        settings: IndexSettings,
        records: Records | None = None,
    ) -> None:
        self.exact = exact
        self.pictures = pictures
        self.settings = settings
        self.records = records
        self._searched: faiss.Index | DeviceScan = searched(exact, approximate)

    @classmethod
    def load(cls, folder: str | Path) -> "Index":
        """Load the index in a folder that ``write_index`` wrote; embeddings and items stay on disk until needed.

        Raises:
            VSEError: if there is no index, it is damaged, or a name in it points outside the image folder.
        """
        folder = Path(folder).expanduser()
        settings = read_settings(folder)
        try:
            for name, expected in (settings.checksums or {}).items():
                if checksum(file_of(folder, name, settings)) != expected:
                    raise VSEError(f"{folder}: a damaged index, its {name} have changed on the disk; {DAMAGED}")
            names = json.loads(file_of(folder, "pictures", settings).read_text(encoding="utf-8"))
            pictures = [Picture(*row) for row in names]
            exact = faiss.read_index(str(file_of(folder, "exact", settings)), faiss.IO_FLAG_MMAP_IFC)
            approximate = None
            if settings.recall is not None:
                approximate = faiss.read_index(str(file_of(folder, "approximate", settings)))
            records = None
            if settings.items is not None:
                records = np.load(file_of(folder, "items", settings), mmap_mode="r", allow_pickle=False)
                check_records(records, len(pictures), exact.d)
        except VSEError:
            raise
        except (OSError, EOFError, ValueError, TypeError, RuntimeError) as error:  # FAISS raises the last
            raise VSEError(f"{folder}: a damaged index ({first_line(error)}); {DAMAGED}") from error
        shapes = {(one.ntotal, one.d) for one in (exact, approximate) if one is not None}
        if not isinstance(exact, faiss.IndexFlatIP) or shapes != {(len(pictures), exact.d)}:
            raise VSEError(f"{folder}: a damaged index, its embeddings and names do not fit each other; {DAMAGED}")
        if outside := [one.file for one in pictures if leads_out(one.file)]:
            raise VSEError(
                f"{folder}: refused, it names {outside[0]!r}, which leads out of its image folder; {DAMAGED}"
            )
        return cls(exact, approximate, pictures, settings, records)

    def __len__(self) -> int:
        return len(self.pictures)

    @property
    def width(self) -> int:
        """Width of an embedding."""
        return self.exact.d

    def search(
        self, embeddings: Float[Tensor, "queries dim"], top: int = 10
    ) -> tuple[list[list[float]], list[list[str]]]:
        """Scores and files for each query, best first; see ``hits``."""
        found = self.hits(embeddings, top)
        return [[hit.score for hit in line] for line in found], [[hit.file for hit in line] for line in found]

    def hits(self, embeddings: Float[Tensor, "queries dim"], top: int) -> list[list[Hit]]:
        """The images for each query, best first; an approximate index may find fewer than ``top``.

        Args:
            embeddings: of the queries.
            top: images to find.

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
        return [
            [Hit(row, self.pictures[row].file, score) for score, row in zip(*line, strict=True) if row >= 0]
            for line in zip(scores.tolist(), rows.tolist(), strict=True)
        ]

    def item_sets(self, rows: Sequence[int]) -> ItemSets:
        """The stored sets of items of some images.

        Args:
            rows: of the images.

        Raises:
            VSEError: if the index has no sets, or they are damaged.
        """
        if self.records is None:
            raise VSEError(f"the index has no sets of items; {MAKE_ITEMS}")
        sets = sets_of(self.records[list(rows)])
        check_sets(sets, DAMAGED)
        return sets

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
        place = source or known.model
        model = load_own(place)  # without the libraries that others need
        if model is None:
            tokenizer, vocabulary = tokenizer or known.tokenizer, vocabulary or known.vocabulary
            model = VSE.from_pretrained(place, tokenizer=tokenizer, vocabulary=vocabulary)
        self.check_model(model.fingerprint(), place)
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


MAKE_ITEMS = "python -m vse_gpo.index images=… out=… items=16 adds them, for a model with an interaction"
REMEDY = "give the index's own model by model=, or make a new index by python -m vse_gpo.index in a new folder"
