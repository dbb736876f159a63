"""The table of an index: one row per image in Lance, LanceDB's engine. What was committed outlives any crash."""

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from vse_gpo.errors import VSEError, first_line
from vse_gpo.search.items import ItemSets
from vse_gpo.search.records import Rows, checked_matrix, width_of
from vse_gpo.search.stored import is_index, is_stored_away, read_settings

os.environ.setdefault("LANCE_LOG", "error")  # Lance's remarks about itself are for no user
try:
    import lance as lance  # noqa: PLC0414, writer.py takes it from here
    import pyarrow as pa
except ImportError as error:
    raise VSEError("the search needs Lance, which is not installed; pip install 'vse_gpo[search]'") from error

TABLE = "images.lance"
AT_ONCE = 8192  # embeddings that are read at once
DAMAGED = "python -m vse_gpo.index makes it again in a new folder"
EMBEDDING = ["embedding", "checksum"]


class ImageTable:
    """The rows of one version of a table, read when they are needed; a row's number is its place in that version.

    Args:
        folder: folder of the index.
        version: of the table.
        place: of the table in an object store; None: it lies in the folder.

    Raises:
        VSEError: if the table is missing or damaged, or an object store does not answer.
    """

    def __init__(self, folder: Path, version: int, place: str | None = None) -> None:
        self.folder = folder
        self.version = version
        with damage_told(folder):
            self._dataset = lance.dataset(place or str(folder / TABLE), version=version)
            self.width = width_of(self._dataset.schema)
            self._rows = self._dataset.count_rows()
            check_sizes(self._dataset)

    def __len__(self) -> int:
        return self._rows

    @property
    def has_items(self) -> bool:
        """Whether there is a set of items of each image."""
        return "items" in self._dataset.schema.names

    @property
    def cells(self) -> int:
        """Items that an encoder gave of an image, before similar ones were merged."""
        return int(self._dataset.schema.field("items").type.field("owners").type.list_size)

    @property
    def item_bytes(self) -> int:
        """Bytes of the set of items of an image; 0 if there is none."""
        if not self.has_items:
            return 0
        fields: Any = self._dataset.schema.field("items").type
        kinds = [fields.field(name).type for name in ItemSets._fields]
        return sum(kind.list_size * kind.value_type.bit_width // 8 for kind in kinds)

    def read(self, columns: Sequence[str], *, rows: Sequence[int] | None = None, where: str | None = None) -> pa.Table:
        """Some columns.

        Args:
            columns: their names; ``_rowoffset`` is the number of a row.
            rows: of the images, in the order wanted; None reads all.
            where: condition in SQL; None takes all rows.

        Raises:
            VSEError: if the condition cannot be read, or the table is damaged.
        """
        with damage_told(self.folder, where, version=self.version):
            if rows is not None:
                return self._dataset.take(list(rows), columns=list(columns))
            return self._dataset.to_table(columns=list(columns), filter=where, scan_in_order=True)

    def embeddings(self, where: str | None = None) -> Iterator[tuple[Rows, Float[Tensor, "_ dim"]]]:
        """The numbers and embeddings of all rows, or of those that meet a condition, block by block.

        Args:
            where: condition in SQL.

        Raises:
            VSEError: if the condition cannot be read, or the table is damaged.
        """
        with damage_told(self.folder, where, version=self.version):
            scanner = self._dataset.scanner(
                columns=["_rowoffset", *EMBEDDING],
                filter=where,
                batch_size=AT_ONCE,
                batch_readahead=4,
                scan_in_order=True,
            )
            for batch in scanner.to_batches():
                yield torch.from_numpy(batch["_rowoffset"].to_numpy().astype("int64")), checked_matrix(batch)

    def candidates(self, query: Float[Tensor, " dim"], count: int, *, probes: int, where: str | None = None) -> Rows:
        """The rows that an approximate index proposes for a query.

        Args:
            query: embedding.
            count: rows to propose.
            probes: lists of the index to look at, at least; more, if they hold too few rows that meet the condition.
            where: condition in SQL.

        Raises:
            VSEError: if the condition cannot be read, or the table is damaged.
        """
        near = {"column": "embedding", "q": query.numpy(), "k": count, "minimum_nprobes": probes, "metric": "dot"}
        if where is None:
            near["maximum_nprobes"] = probes
        with damage_told(self.folder, where, version=self.version):
            found = self._dataset.to_table(
                columns=["_rowoffset", "_distance"], nearest=near, filter=where, prefilter=where is not None
            )
            return torch.from_numpy(found["_rowoffset"].to_numpy().astype("int64"))

    def embeddings_of(self, rows: Rows) -> Float[Tensor, "rows dim"]:
        """The embeddings of some rows.

        Args:
            rows: their numbers; they are read fastest in order and all at once.

        Raises:
            VSEError: if the table is damaged.
        """
        with damage_told(self.folder, version=self.version):
            return checked_matrix(self.read(EMBEDDING, rows=rows.tolist()))


def check_sizes(dataset: Any) -> None:
    """Refuse a table of which a file is missing or cut, before a search meets it; object stores hold only whole files.

    Args:
        dataset: of Lance.

    Raises:
        ValueError: if one is.
    """
    if is_stored_away(dataset.uri):
        return
    folder = Path(dataset.uri) / "data"
    for fragment in dataset.get_fragments():
        for file in fragment.data_files():
            size = (folder / file.path).stat().st_size
            if file.file_size_bytes not in (None, size):
                raise ValueError(f"a file of {size:,} bytes, expected {file.file_size_bytes:,}")


# Lance's errors in one line; they end with places in its source

PLACE = re.compile(r"(, |\s)?/(home|rustc)/\S+\.rs:\d+(:\d+)?")
STORE = re.compile(r"Generic (S3|GCS|MicrosoftAzure) error")
KIND = re.compile(r"^((External error|Invalid user input|LanceError\(\w+\)|Schema error|Generic \w+ error): )+")


def lance_reason(error: Exception) -> str:
    """What went wrong, without the parts that only Lance's developers need.

    Args:
        error: that Lance or Arrow raised.
    """
    return KIND.sub("", PLACE.sub("", first_line(error))).strip(" .,")


@contextmanager
def damage_told(folder: Path, where: str | None = None, *, version: int | None = None) -> Iterator[None]:
    """Tell in one line that a table cannot be read.

    Args:
        folder: of the index.
        where: condition that was asked for.
        version: of the table that was read; its files are gone when the index has been updated twice.

    Raises:
        VSEError: in place of Lance's error.
    """
    try:
        yield
    except VSEError:
        raise
    except (OSError, EOFError, ValueError, TypeError, KeyError, RuntimeError) as error:
        if where is not None and str(error).startswith("Invalid user input"):
            raise VSEError(f"where={where}: cannot be read ({lance_reason(error)})") from error
        if version is not None and is_index(folder) and read_settings(folder).version != version:
            raise VSEError(f"{folder}: the index has been updated since it was opened; open it again") from error
        if STORE.search(str(error)):
            raise VSEError(
                f"{folder}: the object store of its table does not answer as expected ({lance_reason(error)}); check "
                "the address in index.json and your credentials"
            ) from error
        raise VSEError(f"{folder}: a damaged index ({lance_reason(error)}); {DAMAGED}") from error
