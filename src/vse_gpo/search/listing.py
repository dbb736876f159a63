"""The copies among the images of an index, listed: exact ones and near ones, kept apart."""

import json as as_json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from vse_gpo.errors import VSEError, printable
from vse_gpo.search.copies import Groups, NearPairs, exact_copies, groups_of, near_copies, without_copies
from vse_gpo.search.index import Index

COLUMNS = ["file", "bytes", "width", "height", "hash", "phash"]
MOST = 64  # bits of a perceptual hash
File = Mapping[str, Any]


class Copies(NamedTuple):
    """Groups of files, the largest image of each first; a near one says how near its nearest is."""

    exact: list[list[File]]
    near: list[list[File]]


def list_copies(*, index: str, difference: float | str, seed: int, json: bool) -> None:
    """Print the exact copies and the near copies among the images of an index. No file is changed.

    Args:
        index: folder of the index.
        difference: largest one of near copies; see ``near_copies``.
        seed: of the sample of pairs that says what is usual.
        json: print only JSON.

    Raises:
        VSEError: if the difference is impossible, or there is no index.
    """
    if isinstance(difference, str) or not 0 <= difference <= MOST:
        raise VSEError(f"difference={difference}, expected a number from 0 to {MOST}")
    found = find_copies(Index.load(Path(index)), limit=difference, random=np.random.default_rng(seed))
    print(as_json.dumps(found._asdict()) if json else "\n".join(lines_of(found)))


def find_copies(index: Index, *, limit: float, random: np.random.Generator) -> Copies:
    """The copies among the images of an index; of exact copies only the first is compared with other images.

    Args:
        index: of the images.
        limit, random: see ``near_copies``.
    """
    table = index.table.read(COLUMNS)
    exact = exact_copies(table["hash"].to_pylist())
    compared = np.flatnonzero(without_copies(exact, len(index)) & table["phash"].is_valid().to_numpy())
    pairs = near_copies(
        table["phash"].fill_null(0).to_numpy()[compared],
        index.embeddings()[compared],
        limit=limit,
        random=random,
    )
    near: Groups = [compared[group].tolist() for group in groups_of(pairs, len(compared))]
    rows = [row for group in [*exact, *near] for row in group]
    shown = table.select(COLUMNS[:4]).take(np.array(rows, np.int64)).to_pylist()
    files = dict(zip(rows, shown, strict=True))
    nearest = {int(compared[row]): found for row, found in nearest_of(pairs).items()}
    return Copies(
        [by_size([files[row] for row in group]) for group in exact],
        [by_size([files[row] | nearest[row] for row in group]) for group in near],
    )


def nearest_of(pairs: NearPairs) -> dict[int, dict[str, Any]]:
    """How near the nearest copy of each row is.

    Args:
        pairs: of rows.
    """
    found: dict[int, dict[str, Any]] = {}
    for place in np.argsort(pairs.differences, kind="stable").tolist():
        near = {"bits": int(pairs.bits[place]), "distance": round(float(pairs.distances[place]), 4)}
        for row in (int(pairs.first[place]), int(pairs.second[place])):
            found.setdefault(row, near)
    return found


def by_size(files: Sequence[File]) -> list[File]:
    """Files in order: most pixels first, then most bytes, then by name.

    Args:
        files: of a group.
    """
    return sorted(files, key=lambda one: (-one["width"] * one["height"], -one["bytes"], one["file"]))


def lines_of(copies: Copies) -> list[str]:
    """A line for each file, below one for each kind of copy; an empty line between groups.

    Args:
        copies: of an index.
    """
    lines = []
    for name, groups in zip(("exact", "near"), copies, strict=True):
        count = sum(map(len, groups))
        lines.append(f"{name} copies: {count} files in {len(groups)} groups" if groups else f"{name} copies: none")
        for group in groups:
            lines += [line_of(file) for file in group] + [""]
    return lines


def line_of(file: File) -> str:
    """Size and name of a file, and how near its nearest copy is.

    Args:
        file: of a group.
    """
    near = f"  {file['bits']:2} bits, distance {file['distance']:.2f}" if "bits" in file else ""
    size = f"{file['width']} × {file['height']}"
    return f"  {size:>13} {file['bytes']:>12,} bytes{near}  {printable(file['file'])}"
