"""Results of an evaluation: tables, metrics, and what every query found."""

import csv
import io
import json
import re
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import RenderableType
from rich.markup import escape
from rich.table import Table

from vse_gpo.errors import VSEError, first_line, printable
from vse_gpo.retrieval.embeddings import Encoded
from vse_gpo.retrieval.recalls import Metrics, Outcome, Queries
from vse_gpo.retrieval.uncertainty import Interval
from vse_gpo.storage.writing import whole_file, write_text

Intervals = Mapping[str, Interval]
SHORT = {"i2t": "i→t", "t2i": "t→i", "t2t": "t→t", "i2i": "i→i"}
QUERIES, IMAGE_IDS = "queries.npz", "image_ids"


@dataclass(frozen=True, kw_only=True)
class Result:
    """Scores of a source, or of an ensemble of several, by one protocol."""

    source: str
    protocol: str
    variant: str  # of the annotations, and the bank of a correction; empty if there is only one and none
    outcome: Outcome
    intervals: Intervals
    published: Metrics

    @property
    def metrics(self) -> Metrics:
        """All numbers by name."""
        return self.outcome.metrics()


def tables(results: Sequence[Result]) -> list[RenderableType]:
    """Tables of every protocol: a row per source with published numbers below; split to fit a terminal."""
    shown: list[RenderableType] = []
    for protocol in dict.fromkeys(result.protocol for result in results):
        rows = [result for result in results if result.protocol == protocol]
        variant = f" · {rows[0].variant}" if rows[0].variant else ""
        every = dict.fromkeys(name for row in rows for name in row.metrics)  # not all rows have t2t
        for names in _columns([name for name in every if not name.endswith(("medr", "meanr", "_std", "_ms"))]):
            shown.append(_table(f"{protocol}{variant}", rows, names))
    return shown


def _columns(names: Sequence[str]) -> list[list[str]]:
    """Scores between images and captions first, then within each; totals join the first group if there is room."""
    between: list[str] = []
    among: list[str] = []
    totals: list[str] = []
    for name in names:
        direction = name.partition("_")[0]
        (between if direction in ("i2t", "t2i") else among if direction in SHORT else totals).append(name)
    first, *rest = [between + totals, among] if len(between + totals) < 8 else [between, among, totals]
    return [group for group in (first, *rest) if group]


def _table(title: str, rows: Sequence[Result], names: Sequence[str]) -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column("model", overflow="fold")
    for name in names:
        table.add_column(heading(name).replace(" ", "\n"), justify="right")
    for result in rows:
        table.add_row(escape(printable(result.source)), *(cell(result, name) for name in names))
        known = result.published
        if any(name in known for name in names):
            table.add_row("  published", *(f"{known[name]:.1f}" if name in known else "" for name in names))
            both = known.keys() & result.metrics.keys()
            gaps = (f"{result.metrics[name] - known[name]:+.1f}" if name in both else "" for name in names)
            table.add_row("  difference", *gaps)
    return table


def heading(name: str) -> str:
    """Column heading of a metric: i2t_r1 → i→t R@1."""
    direction, _, score = name.partition("_")
    if direction not in SHORT:
        return {"rsum": "rSum", "map_at_r": "mAP@R", "rprecision": "R-P", "r1": "R@1"}.get(name, name.upper())
    score = {"map_at_r": "mAP@R", "rprecision": "R-P"}.get(score, score.replace("r", "R@", 1))
    return f"{SHORT[direction]} {score}"


def cell(result: Result, name: str) -> str:
    """A number and, below it, half of its 95 % interval or its spread; empty if there is no such number."""
    if name not in result.metrics:
        return ""
    value = f"{result.metrics[name]:.1f}"
    if name in result.intervals:
        low, high = result.intervals[name]
        return f"{value}\n[dim]± {(high - low) / 2:.1f}[/dim]"
    if f"{name}_std" in result.metrics:
        return f"{value}\n[dim]± {result.metrics[f'{name}_std']:.1f}[/dim]"
    return value


def latex(result: Result) -> str:
    """A row of a LaTeX table: the model and every recall and total, with one decimal."""
    names = [name for name in result.metrics if not name.endswith(("medr", "meanr", "_std", "_ms"))]
    model = re.sub(r"([_#&%$])", r"\\\1", result.source)
    heads = " & ".join(heading(name).replace("→", r"$\to$") for name in names)
    return f"% {result.protocol}: {heads}\n{model} & " + " & ".join(f"{result.metrics[n]:.1f}" for n in names) + r" \\"


# files


def write_results(folder: Path, results: Sequence[Result], encoded: Mapping[str, Encoded]) -> None:
    """Write metrics.json, metrics.csv and table.tex of all sources, and queries.csv and queries.npz of each source.

    Args:
        folder: folder of the evaluation; each of several sources gets its own subfolder.
        results: results of every source and protocol.
        encoded: source → its test set.
    """
    nested: dict[str, dict[str, Any]] = {}
    for result in results:
        nested.setdefault(result.source, {})[result.protocol] = {
            "variant": result.variant,
            "metrics": result.metrics,
            "intervals": {name: list(interval) for name, interval in result.intervals.items()},
        }
    write_text(folder / "metrics.json", json.dumps(nested, indent=2) + "\n")
    lines = [
        (result.source, result.protocol, name, f"{value:.4f}", *(f"{x:.4f}" for x in result.intervals.get(name, ())))
        for result in results
        for name, value in result.metrics.items()
    ]
    write_text(folder / "metrics.csv", _csv(("model", "protocol", "metric", "value", "low", "high"), lines))
    write_text(folder / "table.tex", "\n".join(latex(result) for result in results) + "\n")
    for source, test in encoded.items():
        place = folder if len(encoded) == 1 else folder / source
        own = {result.protocol: result.outcome for result in results if result.source == source}
        write_text(place / "queries.csv", _csv(QUERY_COLUMNS, _query_lines(own, test)))
        _write_queries(place / QUERIES, own, test)


QUERY_COLUMNS = ("protocol", "direction", "query", "id", "image", "rank", "scores")


def _query_lines(outcomes: Mapping[str, Outcome], test: Encoded) -> list[tuple[Any, ...]]:
    """What every query found; the rank of its best match counts from 1."""
    images, captions = test.image_ids, test.caption_ids
    files = test.files or images
    lines = []
    for protocol, outcome in outcomes.items():
        for queries in outcome.queries:
            ids = images if queries.direction.startswith("i") else captions
            for number, (row, owner) in enumerate(zip(queries.rows.tolist(), queries.owners.tolist(), strict=True)):
                rank = "" if queries.ranks is None else int(queries.ranks[number]) + 1
                scores = " ".join(f"{name}={values[number]:g}" for name, values in queries.scores.items())
                name, file = (ids[row] if ids else row), (files[owner] if files else owner)
                lines.append((protocol, queries.direction, row, name, file, rank, scores))
    return lines


def _csv(head: Sequence[str], lines: Sequence[Sequence[Any]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([head, *lines])
    return text.getvalue()


def _write_queries(path: Path, outcomes: Mapping[str, Outcome], test: Encoded) -> None:
    arrays: dict[str, Any] = {"images": np.array(test.similarities.image_caption.shape[0])}
    if test.image_ids is not None:
        arrays[IMAGE_IDS] = np.array([str(one) for one in test.image_ids])
    for protocol, outcome in outcomes.items():
        arrays[f"{protocol}|totals"] = np.array(json.dumps(outcome.totals))
        for queries in outcome.queries:
            place = f"{protocol}|{queries.direction}"
            arrays |= {f"{place}|rows": queries.rows, f"{place}|owners": queries.owners}
            arrays |= {f"{place}|score|{name}": values for name, values in queries.scores.items()}
            arrays |= {} if queries.ranks is None else {f"{place}|ranks": queries.ranks}
            arrays |= {} if queries.folds is None else {f"{place}|folds": queries.folds}
    with whole_file(path) as file:
        np.savez_compressed(file, **arrays)


@dataclass(frozen=True, kw_only=True)
class Evaluated:
    """What an evaluation's folder holds about a test set.

    Args:
        images: number of images.
        image_ids: id per image; None if unknown.
        outcomes: outcome by protocol.
    """

    images: int
    image_ids: Sequence[str] | None
    outcomes: Mapping[str, Outcome]


def read_queries(folder: Path) -> Evaluated:
    """Read what every query found from an evaluation's folder.

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
            f"{folder}: no evaluation of one model ({first_line(error)}), expected {QUERIES} as "
            "python -m vse_gpo.evaluate writes it; of several models, name the folder of one"
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
