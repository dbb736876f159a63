"""What the photos of an index can be narrowed down by: when and where they were taken, by which cameras, folders."""

from collections import Counter
from pathlib import PurePosixPath
from typing import NamedTuple

import pyarrow.compute as pc

from vse_gpo.search.index import Index

MOST = 1000  # cameras or folders to choose from; others can be typed
MONTHS = 72  # more are shown as years


class Span(NamedTuple):
    """The photos of a month or a year."""

    start: str  # such as 2023-06 or 2023; see ``period_of``
    end: str  # the first month or year after it
    photos: int


class Facets(NamedTuple):
    """What is known of the photos of an index."""

    spans: list[Span]  # in order, from the first photo to the last
    cameras: list[str]
    folders: list[str]
    has_places: bool


def facets_of(index: Index) -> Facets:
    """What is known of the photos of an index.

    Args:
        index: of the photos.
    """
    table = index.table.read(["file", "date", "camera", "latitude"])
    dates = table["date"].drop_null()
    years, months = (part(dates).to_pylist() for part in (pc.year, pc.month))
    cameras = {name for name in table["camera"].unique().to_pylist() if name}
    folders = {str(PurePosixPath(name).parent) for name in table["file"].to_pylist()} - {"."}
    return Facets(
        spans_of(Counter(12 * year + month - 1 for year, month in zip(years, months, strict=True))),
        sorted(cameras)[:MOST],
        sorted(folders)[:MOST],
        has_places=table["latitude"].null_count < len(table),
    )


def spans_of(photos: Counter[int]) -> list[Span]:
    """Months from the first to the last, or years if they are many.

    Args:
        photos: in each month, counted from the year 0.
    """
    if not photos:
        return []
    first, last = min(photos), max(photos)
    if last - first < MONTHS:
        return [Span(month_name(one), month_name(one + 1), photos[one]) for one in range(first, last + 1)]
    years: Counter[int] = Counter()
    for month, count in photos.items():
        years[month // 12] += count
    return [Span(f"{one:04}", f"{one + 1:04}", years[one]) for one in range(min(years), max(years) + 1)]


def month_name(month: int) -> str:
    """A month as ``period_of`` reads it.

    Args:
        month: counted from the year 0.
    """
    return f"{month // 12:04}-{month % 12 + 1:02}"
