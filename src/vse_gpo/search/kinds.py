"""Kinds of index: exact, or approximate for collections where comparing every embedding takes too long.

An approximate index only proposes candidates; their scores are then computed from the exact embeddings (``candidates``
times as many as asked for), so that a score means the same in every kind.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Protocol, runtime_checkable

from vse_gpo.search.writer import TableWriter


@runtime_checkable
class Kind(Protocol):
    """Makes what a search looks at first."""

    @property
    def settings(self) -> dict[str, Any] | None:
        """Settings of the approximate index, as ``kind_of`` takes them; None if there is none."""

    def build(self, table: TableWriter, *, again: bool) -> None:
        """Bring a table's approximate index up to date, or remove it.

        Args:
            table: of the index.
            again: make it anew: the one that is there is of another kind, or may be unfinished.
        """


@dataclass(frozen=True)
class Flat:
    """Compares every embedding: exact."""

    @property
    def settings(self) -> None:
        return None

    def build(self, table: TableWriter, *, again: bool) -> None:
        table.drop_lists()


@dataclass(frozen=True)
class InvertedLists:
    """Embeddings in lists around centroids, one bit per dimension (RaBitQ); a search reads only the nearest lists.

    Args:
        lists: number of lists; None takes the square root of the number of embeddings.
        probes: lists that a search reads; more lists find more and take longer.
        candidates: times as many images are compared exactly as are asked for.
    """

    lists: int | None = None
    probes: int = 128
    candidates: int = 10

    @property
    def settings(self) -> dict[str, Any]:
        return asdict(self)

    def build(self, table: TableWriter, *, again: bool) -> None:
        table.build_lists(min(self.lists or round(len(table) ** 0.5), len(table)), again=again)


def kind_of(approximate: Mapping[str, Any] | None) -> Flat | InvertedLists:
    """The kind of an index by its settings.

    Args:
        approximate: settings of ``InvertedLists``; None for an exact index.
    """
    return Flat() if approximate is None else InvertedLists(**approximate)
