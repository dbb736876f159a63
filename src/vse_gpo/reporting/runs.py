"""Read the folder of a training or of an evaluation for a report."""

import csv
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from vse_gpo.errors import VSEError, first_line
from vse_gpo.evaluation.query_files import QUERIES, read_queries
from vse_gpo.reporting.sections import logged_name, shown_sections
from vse_gpo.retrieval.recalls import Metrics
from vse_gpo.storage.card import tested_scores
from vse_gpo.storage.settings import CONFIG, leaves, read_config
from vse_gpo.training.run_folder import METRICS, logged_files

Points = list[tuple[float, float]]
CURVES = {title: pattern for section in shown_sections() for title, pattern in section.lines.items()}


class Searched(NamedTuple):
    """What scores were measured on; scores on different ones stand in tables of their own."""

    dataset: str | None = None
    split: str | None = None
    images: int | None = None
    captions: int | None = None

    def __str__(self) -> str:
        counts = ((self.images, "images"), (self.captions, "captions"))
        sizes = ", ".join(f"{count:,} {kind}" for count, kind in counts if count is not None)
        return " · ".join(filter(None, (self.dataset, self.split, sizes))) or "test set unknown"


UNKNOWN = Searched()


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Scores of a model by one protocol, with intervals if they were computed."""

    metrics: Metrics
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    test_set: Searched = UNKNOWN


@dataclass(frozen=True, kw_only=True)
class Run:
    """A training, or one model of an evaluation."""

    name: str
    folder: Path
    settings: dict[str, Any] | None  # None for an evaluation, which does not know how the model was trained
    curves: Mapping[str, Points]  # title → (step, value)
    scores: Mapping[str, Scores]  # by protocol
    best: Path | None  # its best checkpoint


def find_runs(folder: Path) -> tuple[list[Run], list[str]]:
    """Read a run, or every run below a folder, such as a sweep's; lines about what was left out.

    Args:
        folder: of a training, of an evaluation, or of any number of them.

    Raises:
        VSEError: if the folder itself is a damaged run, or there is no run in it.
    """
    if (folder / METRICS).is_file() or (folder / CONFIG).is_file():
        return read_runs(folder), []
    runs, left_out = [], []
    for place in run_folders(folder):
        try:
            runs += read_runs(place)
        except VSEError as error:
            left_out.append(str(error))
    if not runs:
        found = f", and left out: {'; '.join(left_out)}" if left_out else ""
        raise VSEError(
            f"{folder}: no run in it, no folder with a {METRICS}{found}; expected a folder that vse-train or "
            "vse-evaluate wrote, or one with such folders"
        )
    return runs, left_out


def run_folders(folder: Path) -> list[Path]:
    """The folders below one that hold a training or an evaluation, in order; links are not followed."""
    found = []
    for place, below, files in os.walk(folder):
        below.sort()
        if METRICS in files or CONFIG in files:
            found.append(Path(place))
            below.clear()  # what lies below belongs to it
    return found


def read_runs(folder: Path) -> list[Run]:
    """Read a training's run, or every model of an evaluation.

    Raises:
        VSEError: if the folder holds neither, or its files are damaged.
    """
    if not (folder / METRICS).is_file():
        state = "the run has not ended" if (folder / CONFIG).is_file() else "no run"
        raise VSEError(
            f"{folder}: {state}, it has no {METRICS}; expected a folder that vse-train or vse-evaluate wrote"
        )
    try:
        metrics = json.loads((folder / METRICS).read_text(encoding="utf-8"))
        if (folder / CONFIG).is_file():
            return [_read_training(folder, metrics)]
        title = folder.resolve().name  # several models are told apart by their own names
        return [
            _read_evaluated(folder, title if len(metrics) == 1 else f"{title} · {name}", protocols)
            for name, protocols in metrics.items()
        ]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, yaml.YAMLError) as error:
        raise VSEError(
            f"{folder}: damaged or no run ({first_line(error)}), expected {METRICS} as it was written"
        ) from (error)


def _read_training(folder: Path, metrics: dict[str, Any]) -> Run:
    settings: dict[str, Any] = read_config(folder)
    best = folder / "checkpoints" / "best.ckpt"
    scores = {
        protocol: Scores(metrics=found, test_set=searched_by(folder, settings))
        for protocol, found in tested_scores(metrics).items()
    }
    return Run(
        name=f"{settings['name']} · {folder.resolve().name}",
        folder=folder,
        settings=settings,
        curves=_read_curves(logged_files(folder)),
        scores=scores,
        best=best if best.is_file() else None,
    )


def searched_by(folder: Path, settings: Mapping[str, Any]) -> Searched:
    """The test set of a training; its size from the queries of its test, if the run has kept them."""
    dataset = settings["dataset"]
    known = Searched(dataset["name"], dataset["test_split"])
    if not (folder / QUERIES).is_file():
        return known
    evaluated = read_queries(folder)
    captions = [len(one.rows) for one in next(iter(evaluated.outcomes.values())).queries if one.direction == "t2i"]
    return known._replace(images=evaluated.images, captions=next(iter(captions), None))


def _read_evaluated(folder: Path, name: str, protocols: dict[str, Any]) -> Run:
    scores = {
        protocol: Scores(
            metrics={metric: float(value) for metric, value in found["metrics"].items()},
            intervals={metric: (float(low), float(high)) for metric, (low, high) in found["intervals"].items()},
            test_set=Searched(**found.get("test_set", {})),
        )
        for protocol, found in protocols.items()
    }
    return Run(name=name, folder=folder, settings=None, curves={}, scores=scores, best=None)


def _read_curves(paths: Sequence[Path]) -> dict[str, Points]:
    """Curves from the first column that fits each title; a row of a file fills only a few columns.

    A part that was resumed from an earlier checkpoint repeats some steps: those of the later part count.
    """
    curves: dict[str, dict[float, float]] = {}
    for path in paths:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        for title, pattern in CURVES.items():
            column = logged_name(pattern, rows[0] if rows else ())
            if column is not None:
                found = {float(row["step"]): float(row[column]) for row in rows if row[column] and row["step"]}
                curves[title] = curves.get(title, {}) | found
    return {title: sorted(points.items()) for title, points in curves.items()}


# settings


def compare_settings(runs: list[Run]) -> tuple[dict[str, list[str]], dict[str, str]]:
    """Settings that differ, with the value of every run, and settings that all runs share."""
    known = [dict(leaves(run.settings)) for run in runs if run.settings is not None]
    differing, shared = {}, {}
    for name in dict.fromkeys(name for settings in known for name in settings):
        values = [_shown(settings[name]) if name in settings else "–" for settings in known]
        if len(set(values)) > 1:
            differing[name] = values
        else:
            shared[name] = values[0]
    return differing, shared


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
