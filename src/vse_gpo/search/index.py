"""An index of images: a folder with their embeddings, their names, and where their model is."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from jaxtyping import Float, Int
from torch import Tensor

from vse_gpo.checkpoints.own import load_own
from vse_gpo.errors import VSEError
from vse_gpo.model import VSE
from vse_gpo.retrieval.similarity import check_directions
from vse_gpo.search.items import ItemSets, check_sets
from vse_gpo.search.kinds import kind_of
from vse_gpo.search.records import sets_of
from vse_gpo.search.scan import Nearest, in_blocks, in_order, nearest
from vse_gpo.search.stored import IndexSettings, leads_out, read_settings
from vse_gpo.search.table import DAMAGED, ImageTable, damage_told

FEW = 20_000  # images that an approximate index compares exactly, if a condition leaves no more
ODD = r"^/|/$|(^|/)\.\.?(/|$)|\x00"  # names that may lead out: ``leads_out`` would take a second for a million
AT_ONCE = 64  # queries whose candidates are in memory at once
TIE = 1e-6  # scores closer than this are equal


class Hit(NamedTuple):
    """A found image."""

    row: int  # in the index
    file: str
    score: float


class Index:
    """Images that can be found by an embedding.

    Args:
        table: a row of each image.
        settings: of the index.
    """

    def __init__(self, table: ImageTable, settings: IndexSettings) -> None:
        self.table = table
        self.settings = settings
        self.kind = kind_of(settings.approximate)
        self._device = torch.device("cpu")

    @classmethod
    def load(cls, folder: str | Path) -> "Index":
        """Load the index in a folder; what it holds stays on disk until it is needed.

        Raises:
            VSEError: if there is no index, it is damaged, or a name in it points outside the image folder.
        """
        folder = Path(folder).expanduser()
        settings = read_settings(folder)
        with damage_told(folder):
            index = cls(ImageTable(folder, settings.version, settings.table), settings)
            if not len(index) or index.has_items != (settings.items is not None):
                raise ValueError("its table is not the one that its settings describe")
        odd = index.names.filter(pc.or_(pc.match_substring_regex(index.names, ODD), pc.equal(index.names, "")))
        if outside := [file for file in odd.to_pylist() if leads_out(file)]:
            raise VSEError(
                f"{folder}: refused, it names {outside[0]!r}, which leads out of its image folder; {DAMAGED}"
            )
        return index

    def __len__(self) -> int:
        return len(self.table)

    @property
    def width(self) -> int:
        """Width of an embedding."""
        return self.table.width

    @property
    def has_items(self) -> bool:
        """Whether there is a set of items of each image."""
        return self.table.has_items

    @cached_property
    def names(self) -> pa.Array:
        """Files of all rows, as an Arrow array, which takes little memory."""
        return self.table.read(["file"])["file"].combine_chunks()

    def files(self, rows: Sequence[int]) -> list[str]:
        """Files of some rows.

        Args:
            rows: of the images.
        """
        return self.names.take(pa.array(rows, pa.int64())).to_pylist()

    def search(
        self, embeddings: Float[Tensor, "queries dim"], top: int = 10, *, where: str | None = None
    ) -> tuple[list[list[float]], list[list[str]]]:
        """Scores and files for each query, best first; see ``hits``."""
        found = self.hits(embeddings, top, where=where)
        return [[hit.score for hit in line] for line in found], [[hit.file for hit in line] for line in found]

    def hits(self, embeddings: Float[Tensor, "queries dim"], top: int, *, where: str | None = None) -> list[list[Hit]]:
        """The images for each query, best first, equal scores by file; an approximate index may find fewer.

        Args:
            embeddings: of the queries.
            top: images to find.
            where: condition in SQL on the columns of the table; only images that meet it are compared.

        Raises:
            VSEError: if ``top`` is not positive, the condition cannot be read, or the embeddings come from another
                model, or are NaN or zero.
        """
        if top < 1:
            raise VSEError(f"top={top}, expected 1 or more")
        if embeddings.shape[1] != self.width:
            raise VSEError(f"embeddings of width {embeddings.shape[1]}, the index holds {self.width}; {REMEDY}")
        check_directions("query", embeddings)
        found = self._nearest(embeddings.float().cpu().contiguous(), min(top, len(self)), where)
        return [
            [Hit(row, file, score) for score, row, file in in_order(one, self.files(one.rows.tolist()), top)]
            for one in found
        ]

    def _nearest(self, queries: Float[Tensor, "queries dim"], top: int, where: str | None) -> list[Nearest]:
        rows = None if where is None else self._matching(where)
        if self.settings.approximate is None:
            return nearest(queries, in_blocks(self._column, rows, len(queries)), top)
        if rows is not None and len(rows) <= FEW:
            return nearest(queries, self.table.embeddings(where), top)
        parts = queries.split(AT_ONCE)
        return [found for part in parts for found in self._approximate(part, top, where)]

    def _approximate(self, queries: Float[Tensor, "queries dim"], top: int, where: str | None) -> list[Nearest]:
        """Candidates of the approximate index, scored by their exact embeddings, which are read all at once."""
        kind: Any = self.kind
        proposed = [
            self.table.candidates(query, top * kind.candidates, probes=kind.probes, where=where) for query in queries
        ]
        rows = torch.cat(proposed).unique()
        embeddings = self.table.embeddings_of(rows)
        blocks = ((some, embeddings[torch.searchsorted(rows, some)]) for some in proposed)
        return [nearest(query[None], [block], top)[0] for query, block in zip(queries, blocks, strict=True)]

    def _matching(self, where: str) -> Int[Tensor, " rows"]:
        """The rows that meet a condition, in order."""
        return torch.from_numpy(self.table.read(["_rowoffset"], where=where)["_rowoffset"].to_numpy().astype("int64"))

    @cached_property
    def _column(self) -> Float[Tensor, "images dim"]:
        """All embeddings, where they are searched; read once."""
        column = torch.empty(len(self), self.width, device=self._device)
        first = 0
        for _, block in self.table.embeddings():
            column[first : first + len(block)] = block
            first += len(block)
        return column

    def embedding_of(self, row: int) -> Float[Tensor, "1 dim"]:
        """The embedding of an image.

        Args:
            row: of the image.
        """
        return self.table.embeddings_of(torch.tensor([row]))

    def item_sets(self, rows: Sequence[int]) -> ItemSets:
        """The stored sets of items of some images; no others are read.

        Args:
            rows: of the images.

        Raises:
            VSEError: if the index has no sets, or they are damaged.
        """
        if not self.has_items:
            raise VSEError(f"the index has no sets of items; {MAKE_ITEMS}")
        with damage_told(self.table.folder):
            sets = sets_of(self.table.read(["items"], rows=rows), self.width)
        check_sets(sets, DAMAGED)
        return sets

    def search_on(self, device: torch.device) -> "Index":
        """Search on a GPU from now on, with the same answers; an approximate index stays on the CPU."""
        self._device = device
        self.__dict__.pop("_column", None)
        return self

    def embeddings(self) -> Float[np.ndarray, "images dim"]:
        """Embeddings of all images; do not write to them."""
        return self._column.cpu().numpy()

    def recall(self, random: np.random.Generator, *, queries: int = 500, top: int = 10) -> float:
        """Percentage of the true nearest neighbours that a search finds, with a sample of the images as queries.

        Every query is among the images and does not count as its own neighbour. What scores as high as the last true
        neighbour is as good: copies of an image are one another's neighbours in any order.

        Args:
            random: draws the sample.
            queries: images in it.
            top: neighbours of each.
        """
        rows = np.sort(random.choice(len(self), min(len(self), queries), replace=False))
        asked = self.table.embeddings_of(torch.from_numpy(rows))
        top = min(top + 1, len(self))
        found = self._nearest(asked, top, None)
        true = nearest(asked, self.table.embeddings(), top)
        hits = expected = 0
        for own, some, best in zip(rows.tolist(), found, true, strict=True):
            others = best.scores[best.rows != own].sort(descending=True).values[: top - 1]
            if len(others):
                good = (some.scores >= others[-1] - TIE) & (some.rows != own)
                hits += min(int(good.sum()), len(others))
                expected += len(others)
        return 100 * hits / expected if expected else 100.0

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
