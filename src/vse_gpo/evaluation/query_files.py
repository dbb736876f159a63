"""What every query of an evaluation found, as a file that can be compared with another one."""

import json
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vse_gpo.errors import VSEError, first_line
from vse_gpo.retrieval.recalls import Outcome, Queries
from vse_gpo.storage.writing import whole_file

QUERIES, IMAGE_IDS = "queries.npz", "image_ids"


@dataclass(frozen=True, kw_only=True)
class Evaluated:
    """What a folder holds about a test set: every query of one model.

    Args:
        images: number of images.
        image_ids: id per image; None if unknown.
        outcomes: outcome by protocol.
    """

    images: int
    image_ids: Sequence[str] | None
    outcomes: Mapping[str, Outcome]


def write_queries(path: Path, evaluated: Evaluated) -> None:
    """Write what every query found, as ``read_queries`` reads it."""
    arrays: dict[str, Any] = {"images": np.array(evaluated.images)}
    if evaluated.image_ids is not None:
        arrays[IMAGE_IDS] = np.array([str(one) for one in evaluated.image_ids])
    for protocol, outcome in evaluated.outcomes.items():
        arrays[f"{protocol}|totals"] = np.array(json.dumps(outcome.totals))
        for queries in outcome.queries:
            place = f"{protocol}|{queries.direction}"
            arrays |= {f"{place}|rows": queries.rows, f"{place}|owners": queries.owners}
            arrays |= {f"{place}|score|{name}": values for name, values in queries.scores.items()}
            arrays |= {} if queries.ranks is None else {f"{place}|ranks": queries.ranks}
            arrays |= {} if queries.folds is None else {f"{place}|folds": queries.folds}
    with whole_file(path) as file:
        np.savez_compressed(file, **arrays)


def read_queries(folder: Path) -> Evaluated:
    """Read what every query found from the folder of an evaluation or of a training.

    Raises:
        VSEError: if the folder does not hold the evaluation of a single source.
    """
    try:
        with (folder / QUERIES).open("rb") as file, np.load(file, allow_pickle=False) as saved:
            arrays = {name: saved[name] for name in saved.files}
        outcomes: dict[str, Outcome] = {}
        for name in arrays:
            protocol, _, kind = name.partition("|")
            if kind == "totals":
                outcomes[protocol] = _read_outcome(arrays, protocol)
        ids = arrays[IMAGE_IDS].tolist() if IMAGE_IDS in arrays else None
        return Evaluated(images=int(arrays["images"]), image_ids=ids, outcomes=outcomes)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise VSEError(
            f"{folder}: no evaluation of one model ({first_line(error)}), expected {QUERIES} as vse-evaluate and "
            "vse-train write it; of several models, name the folder of one"
        ) from error


def _read_outcome(arrays: Mapping[str, Any], protocol: str) -> Outcome:
    directions = dict.fromkeys(name.split("|")[1] for name in arrays if name.startswith(f"{protocol}|"))
    queries = []
    for direction in directions:
        place = f"{protocol}|{direction}|"
        if f"{place}rows" in arrays:
            score = f"{place}score|"
            queries.append(
                Queries(
                    direction=direction,
                    rows=arrays[f"{place}rows"],
                    owners=arrays[f"{place}owners"],
                    scores={name.removeprefix(score): arrays[name] for name in arrays if name.startswith(score)},
                    ranks=arrays.get(f"{place}ranks"),
                    folds=arrays.get(f"{place}folds"),
                )
            )
    return Outcome(queries=queries, totals=json.loads(str(arrays[f"{protocol}|totals"])))
