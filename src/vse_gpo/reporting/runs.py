"""Read the folder of a training or of an evaluation for a report."""

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from vse_gpo.errors import VSEError, first_line
from vse_gpo.retrieval.recalls import Metrics
from vse_gpo.storage.card import tested_scores
from vse_gpo.storage.settings import CONFIG, leaves, read_config
from vse_gpo.training.run_folder import METRICS, logged_files

Points = list[tuple[float, float]]
CURVES = {"training loss": "train/loss", "learning rate": "lr-", "rSum on dev": "val/rsum"}  # title → columns


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Scores of a model by one protocol, with intervals if they were computed."""

    metrics: Metrics
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Run:
    """A training, or one model of an evaluation."""

    name: str
    folder: Path
    settings: dict[str, Any] | None  # None for an evaluation, which does not know how the model was trained
    curves: Mapping[str, Points]  # title → (step, value)
    scores: Mapping[str, Scores]  # by protocol
    best: Path | None  # its best checkpoint


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
        return [_read_evaluated(folder, name, protocols) for name, protocols in metrics.items()]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, yaml.YAMLError) as error:
        raise VSEError(
            f"{folder}: damaged or no run ({first_line(error)}), expected {METRICS} as it was written"
        ) from (error)


def _read_training(folder: Path, metrics: dict[str, Any]) -> Run:
    settings: dict[str, Any] = read_config(folder)
    best = folder / "checkpoints" / "best.ckpt"
    return Run(
        name=f"{settings['name']} · {folder.resolve().name}",
        folder=folder,
        settings=settings,
        curves=_read_curves(logged_files(folder)),
        scores={protocol: Scores(metrics=found) for protocol, found in tested_scores(metrics).items()},
        best=best if best.is_file() else None,
    )


def _read_evaluated(folder: Path, name: str, protocols: dict[str, Any]) -> Run:
    scores = {
        protocol: Scores(
            metrics={metric: float(value) for metric, value in found["metrics"].items()},
            intervals={metric: (float(low), float(high)) for metric, (low, high) in found["intervals"].items()},
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
        for title, prefix in CURVES.items():
            column = next((name for name in (rows[0] if rows else ()) if name.startswith(prefix)), None)
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
