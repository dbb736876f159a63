"""Changes to the table of an index: each is committed, and no search sees it before the settings name its version."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa

from vse_gpo.errors import VSEError
from vse_gpo.search.records import width_of
from vse_gpo.search.table import TABLE, damage_told, lance, lance_reason

KEPT = "searched"  # tag of the version that the settings named before an update: open searches still read it
FRAGMENT = 100_000  # rows of a file: an update rewrites no more than the last one


class TableWriter:
    """Changes the newest version of a table.

    Args:
        folder: folder of the index; the table need not be there yet.
        place: of the table in an object store; None: it lies in the folder.

    Raises:
        VSEError: if the table is damaged, or an object store does not answer.
    """

    def __init__(self, folder: Path, place: str | None = None) -> None:
        self.folder = folder
        self.place = place or str(folder / TABLE)  # for ``write_fragments``
        self._mode = "append"
        self._dataset: Any = None
        with damage_told(folder):
            self._dataset = newest_table(self.place)

    @property
    def version(self) -> int:
        """Newest version; 0 if there is no table."""
        return 0 if self._dataset is None else int(self._dataset.version)

    @property
    def about(self) -> Mapping[str, str]:
        """What ``append`` said of the rows at first; empty if there is no table."""
        known = {} if self._dataset is None else self._dataset.schema.metadata or {}
        return {name.decode(): value.decode() for name, value in known.items()}

    def read(self, columns: Sequence[str]) -> pa.Table:
        """Some columns of all rows; none if there is no table, or ``start_over`` was called.

        Args:
            columns: their names; ``_rowid`` stays with a row until ``compact``.
        """
        with damage_told(self.folder):
            if self._dataset is None or self._mode == "overwrite":
                return pa.table({name: [] for name in columns})
            return self._dataset.to_table(columns=list(columns), scan_in_order=True)

    def copied(self, rows: Sequence[int]) -> pa.Table:
        """All columns of some rows, to be changed and appended.

        Args:
            rows: their places.
        """
        with damage_told(self.folder):
            return self._dataset.take(list(rows))

    def start_over(self) -> None:
        """Let the next ``append`` begin a table without the rows of before, which stay in their versions."""
        self._mode = "overwrite"

    def append(self, rows: pa.Table | pa.RecordBatch, about: Mapping[str, str]) -> None:
        """Add rows.

        Args:
            rows: as ``record_batch`` makes them.
            about: kept with a new table, to tell an unfinished one of another kind.

        Raises:
            VSEError: if they cannot be written.
        """
        with writing_told(self.folder):
            mode = "create" if self._dataset is None else self._mode
            table = rows if isinstance(rows, pa.Table) else pa.Table.from_batches([rows])
            self._dataset = lance.write_dataset(table.replace_schema_metadata(dict(about)), self.place, mode=mode)
            self._mode = "append"

    @property
    def has_columns(self) -> bool:
        """Whether there is a table that ``append_fragments`` can add to."""
        return self._dataset is not None and self._mode == "append"

    def append_fragments(self, fragments: Sequence[str]) -> None:
        """Add rows that ``write_fragments`` has written, in one commit.

        Args:
            fragments: what it returned.

        Raises:
            VSEError: if they cannot be added.
        """
        with writing_told(self.folder):
            added = lance.LanceOperation.Append([lance.FragmentMetadata.from_json(one) for one in fragments])
            self._dataset = lance.LanceDataset.commit(self.place, added, read_version=self.version)

    def remove(self, ids: Sequence[int], at_once: int = 50_000) -> None:
        """Remove rows.

        Args:
            ids: their ``_rowid``.
            at_once: rows of one commit.
        """
        with writing_told(self.folder):
            for first in range(0, len(ids), at_once):
                self._dataset.delete(f"_rowid IN ({','.join(map(str, ids[first : first + at_once]))})")

    def drop_items(self, about: Mapping[str, str]) -> None:
        """Keep no sets of items any more.

        Args:
            about: see ``append``.
        """
        with writing_told(self.folder):
            self._dataset.drop_columns(["items"])
            self._dataset.update_schema_metadata(dict(about), replace=True)

    def compact(self) -> None:
        """Join small files of rows, and write those anew of which many rows were removed."""
        with writing_told(self.folder):
            self._dataset.optimize.compact_files(target_rows_per_fragment=FRAGMENT, batch_size=1024)
            self._dataset = lance.dataset(self.place)

    def build_lists(self, lists: int, *, again: bool) -> None:
        """Make the approximate index of the embeddings, or only add to it the rows that it lacks.

        It stores a bit of each dimension of an embedding (RaBitQ, Gao and Long 2024).

        Args:
            lists: number of lists.
            again: make it anew.
        """
        with writing_told(self.folder):
            if again or not self._dataset.has_index:
                width = width_of(self._dataset.schema)
                # a byte of each dimension where bits do not fill bytes
                how = {"index_type": "IVF_RQ", "num_bits": 1} if width % 8 == 0 else {"index_type": "IVF_SQ"}
                self._dataset.create_index(
                    "embedding", name="embedding", metric="dot", num_partitions=lists, replace=True, **how
                )
            else:
                self._dataset.optimize.optimize_indices()
            self._dataset = lance.dataset(self.place)

    def drop_lists(self) -> None:
        """Have no approximate index any more."""
        with writing_told(self.folder):
            if self._dataset.has_index:
                self._dataset.drop_index("embedding")
                self._dataset = lance.dataset(self.place)

    def __len__(self) -> int:
        return 0 if self._dataset is None else int(self._dataset.count_rows())

    def keep(self, version: int) -> None:
        """Keep a version when ``clean`` removes others.

        Args:
            version: of the table.
        """
        with writing_told(self.folder):
            tags = self._dataset.tags
            known = tags.list().get(KEPT)
            if known is None:
                tags.create(KEPT, version)
            elif known["version"] != version:
                tags.update(KEPT, version)

    def clean(self) -> None:
        """Remove all versions but the newest and the one that is kept, and what killed commands have left."""
        with writing_told(self.folder):
            self._dataset.cleanup_old_versions(
                older_than=timedelta(0), delete_unverified=True, error_if_tagged_old_versions=False
            )


def newest_table(place: str) -> Any:
    """Open the newest version of a table; None if no table is there.

    Args:
        place: path or address of the table.
    """
    try:
        return lance.dataset(place)
    except ValueError as error:
        if str(error).startswith("Dataset at path") and "was not found" in str(error):
            return None
        raise


def write_fragments(place: str, rows: pa.Table) -> list[str]:
    """Write rows beside a table, in any process; they belong to it when ``append_fragments`` has added them.

    Args:
        place: of the table.
        rows: as ``record_batch`` makes them.

    Returns:
        What ``append_fragments`` takes.

    Raises:
        VSEError: if they cannot be written.
    """
    with writing_told(place):
        written = lance.fragment.write_fragments(rows, place, mode="append", max_rows_per_file=FRAGMENT)
        return [json.dumps(fragment.to_json()) for fragment in written]


@contextmanager
def writing_told(place: Path | str) -> Iterator[None]:
    """Tell in one line that a table cannot be written.

    Args:
        place: folder of the index, or the table.

    Raises:
        VSEError: in place of Lance's error.
    """
    try:
        yield
    except (OSError, ValueError, RuntimeError) as error:
        raise VSEError(f"{place}: cannot be written ({lance_reason(error)}); what was there before is kept") from error
