"""Published numbers, read from ``published.yaml``: rows of the literature, and the comparisons of the paper."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from vse_gpo.errors import VSEError, did_you_mean

FILE = Path(__file__).with_suffix(".yaml")
Scores = dict[str, float]  # metric → value


@dataclass(frozen=True, kw_only=True)
class PublishedRow:
    """What was published of one model.

    Args:
        name: as ``published=`` takes it.
        model: what it is, in words; rows of one model on several data sets share them.
        experiment: that trains it; None where none does, as for ensembles.
        source: of the numbers.
        protocols: protocol → metric → value, recalls in percent.
    """

    name: str
    model: str
    experiment: str | None
    source: str
    protocols: Mapping[str, Scores]


@dataclass(frozen=True, kw_only=True)
class Ablation:
    """A published comparison.

    Args:
        name: of the sweep that makes it, or of the script.
        about: what is compared, in words.
        source: of the numbers.
        experiments: to sweep.
        protocol: of the metrics; None for ``rmse``, which is no retrieval.
        metrics: names of those in ``entries``.
        rows: heading of the entries.
        columns: what the entries were applied to.
        entries: entry → column → metric → value; columns that were not published are left out.
        parameters: entry → how many it learns; empty where they were not published.
    """

    name: str
    about: str
    source: str
    experiments: list[str]
    protocol: str | None
    metrics: list[str]
    rows: str
    columns: list[str]
    entries: Mapping[str, Mapping[str, Scores]]
    parameters: Mapping[str, float] = field(default_factory=dict)


def published_row(name: str) -> PublishedRow:
    """The row of a name.

    Raises:
        VSEError: if there is no such row.
    """
    rows = published_rows()
    if name not in rows:
        raise VSEError(f"published={name}: no such row{did_you_mean(name, rows)}; there are {', '.join(rows)}")
    return rows[name]


@cache
def published_rows() -> Mapping[str, PublishedRow]:
    """Every row by name."""
    return {name: PublishedRow(name=name, **row) for name, row in _numbers()["rows"].items()}


@cache
def published_ablations() -> Mapping[str, Ablation]:
    """Every comparison by the name of its sweep."""
    return {
        name: Ablation(name=name, **{**settings, "entries": _entries(settings)})
        for name, settings in _numbers()["ablations"].items()
    }


def _entries(ablation: Mapping[str, Any]) -> dict[str, dict[str, Scores]]:
    """The cells by entry and column, with the numbers of the rows that they name."""
    metrics, columns = ablation["metrics"], ablation["columns"]

    def scores(cell: str | list[float]) -> Scores:
        if isinstance(cell, str):
            row = published_row(cell).protocols[ablation["protocol"]]
            return {metric: row[metric] for metric in metrics}
        return dict(zip(metrics, cell, strict=True))

    return {
        entry: {column: scores(cell) for column, cell in zip(columns, cells, strict=True) if cell is not None}
        for entry, cells in ablation["entries"].items()
    }


@cache
def _numbers() -> dict[str, Any]:
    numbers: dict[str, Any] = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    return numbers
