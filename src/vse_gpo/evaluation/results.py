"""Results of an evaluation: tables, metrics, and what every query found."""

import csv
import io
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from rich.console import RenderableType
from rich.markup import escape
from rich.table import Table

from vse_gpo.errors import printable
from vse_gpo.evaluation.query_files import QUERIES, Evaluated, write_queries
from vse_gpo.retrieval.chance import chance_recalls
from vse_gpo.retrieval.embeddings import Encoded
from vse_gpo.retrieval.recalls import Metrics, Outcome
from vse_gpo.retrieval.uncertainty import Interval
from vse_gpo.storage.writing import write_text

Intervals = Mapping[str, Interval]
SHORT = {"i2t": "i→t", "t2i": "t→i", "t2t": "t→t", "i2i": "i→i"}


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
    """Tables of every protocol: a row per source with published numbers below, and chance; split to fit a terminal."""
    shown: list[RenderableType] = []
    for protocol in dict.fromkeys(result.protocol for result in results):
        rows = [result for result in results if result.protocol == protocol]
        title = " · ".join(filter(None, (protocol, rows[0].variant, gallery_size(rows[0].outcome))))
        every = dict.fromkeys(name for row in rows for name in row.metrics)  # not all rows have t2t
        for names in _columns([name for name in every if not name.endswith(("medr", "meanr", "_std", "_ms"))]):
            shown.append(_table(title, rows, names))
    return shown


def gallery_size(outcome: Outcome) -> str:
    """How many images and captions were queries, and in how many folds; empty if no query was."""
    found = {queries.direction: queries for queries in outcome.queries}
    kinds = {"images": found.get("i2t"), "captions": found.get("t2i")}
    counts = [f"{len(queries.rows):,} {kind}" for kind, queries in kinds.items() if queries is not None]
    folds = {len(np.unique(queries.folds)) for queries in outcome.queries if queries.folds is not None}
    return ", ".join(counts) + "".join(f" in {number} folds" for number in folds)


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
    chance = chance_recalls(rows[0].outcome)
    if chance.keys() & set(names):
        table.add_row("chance", *(f"{chance[name]:.1f}" if name in chance else "" for name in names), style="dim")
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


def write_results(
    folder: Path,
    results: Sequence[Result],
    encoded: Mapping[str, Encoded],
    origins: Mapping[str, tuple[str, str]] = MappingProxyType({}),
) -> None:
    """Write metrics.json, metrics.csv and table.tex of all sources, and queries.csv and queries.npz of each source.

    Args:
        folder: folder of the evaluation; each of several sources gets its own subfolder.
        results: results of every source and protocol.
        encoded: source → its test set.
        origins: source → data set and split, for those that are known.
    """
    nested: dict[str, dict[str, Any]] = {}
    for result in results:
        dataset, split = origins.get(result.source, (None, None))
        images, captions = encoded[result.source].similarities.image_caption.shape
        nested.setdefault(result.source, {})[result.protocol] = {
            "variant": result.variant,
            "test_set": {"dataset": dataset, "split": split, "images": images, "captions": captions},
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
        images = test.similarities.image_caption.shape[0]
        write_queries(place / QUERIES, Evaluated(images=images, image_ids=test.image_ids, outcomes=own))


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
