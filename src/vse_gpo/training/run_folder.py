"""What an earlier start of the same run left in its folder: nothing, a part of the run, or all of it."""

import json
from collections.abc import Mapping
from itertools import count, takewhile
from pathlib import Path
from typing import Any

import yaml

from vse_gpo.checkpoints.pickles import read_pickle
from vse_gpo.errors import VSEError
from vse_gpo.storage.settings import CONFIG, leaves, read_config
from vse_gpo.storage.writing import write_text

METRICS, LOGGED, LAST = "metrics.json", "metrics.csv", "checkpoints/last.ckpt"
PART = "metrics.part{}.csv"


def finished(folder: Path, settings: Mapping[str, Any]) -> dict[str, Any] | None:
    """The results of the run if it is finished, otherwise None.

    Raises:
        VSEError: if the folder holds results or checkpoints of another config.
    """
    _check_same_run(folder, settings)
    path = folder / METRICS
    results: dict[str, Any] | None = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
    return results


def checkpoint_to_resume(folder: Path) -> str | None:
    """The last checkpoint of an interrupted run."""
    return str(folder / LAST) if (folder / LAST).is_file() else None


def begun(folder: Path, settings: Mapping[str, Any]) -> bool:
    """Whether this very run, ``resume`` included, has left a checkpoint: its processes may ask at any time."""
    last = folder / LAST
    return last.is_file() and read_pickle(last, []).get("settings") == settings


def keep_logged(folder: Path) -> None:
    """Rename the metrics of the previous part, because the logger starts its file anew."""
    if (folder / LOGGED).is_file():
        (folder / LOGGED).rename(folder / PART.format(len(logged_files(folder)) - 1))


def logged_files(folder: Path) -> list[Path]:
    """The metrics of all parts of a run, in order."""
    parts = takewhile(Path.is_file, (folder / PART.format(number) for number in count()))
    return [*parts, *(path for path in [folder / LOGGED] if path.is_file())]


def write_config(folder: Path, settings: Mapping[str, Any]) -> None:
    """Write the run's resolved config."""
    write_text(folder / CONFIG, yaml.safe_dump(dict(settings), sort_keys=False, allow_unicode=True, width=10**6))


def write_metrics(folder: Path, results: Mapping[str, Any]) -> None:
    write_text(folder / METRICS, json.dumps(results, indent=2) + "\n")


def _check_same_run(folder: Path, settings: Mapping[str, Any]) -> None:
    if not any((folder / name).is_file() for name in (METRICS, LAST)):
        return  # nothing to lose
    if not (folder / CONFIG).is_file():
        raise VSEError(f"{folder}: holds a run without its {CONFIG}; choose another folder")
    there, here = dict(leaves(read_config(folder))), dict(leaves(settings))
    names = [name for name in there | here if name != "resume" and there.get(name) != here.get(name)]
    if names:
        name = names[0]
        raise VSEError(
            f"{folder}: holds a run of another config, {name}={there.get(name)} where it is {here.get(name)} now; "
            "choose another folder, or set resume= to resume from its checkpoint"
        )


def steps_taken(path: str, max_epochs: int | None, max_steps: int = -1) -> int:
    """Number of steps that a checkpoint has trained; before any work, refuses one that cannot be resumed from.

    Args:
        path: checkpoint file.
        max_epochs, max_steps: where the run that resumes from it ends; −1, and for epochs None, sets no end.

    Raises:
        VSEError: if the checkpoint is missing, damaged, holds only weights, or was saved after the end of the run.
    """
    expected = "expected a checkpoint such as runs/…/checkpoints/last.ckpt"
    if not Path(path).is_file():
        raise VSEError(f"resume={path}: no such file, {expected}")
    checkpoint = read_pickle(path, [])
    if not isinstance(checkpoint, dict) or "optimizer_states" not in checkpoint:
        raise VSEError(f"resume={path}: holds no training state, {expected}")
    epoch: int = checkpoint["epoch"]
    if max_epochs is not None and 0 <= max_epochs <= epoch:
        raise VSEError(
            f"resume={path}: saved in epoch {epoch}, counted from 0, and trainer.max_epochs={max_epochs} ends the run "
            "before it; set trainer.max_epochs to train longer"
        )
    steps: int = checkpoint["global_step"]
    if 0 <= max_steps <= steps:
        raise VSEError(
            f"resume={path}: saved after step {steps}, and trainer.max_steps={max_steps} ends the run before it; set "
            "trainer.max_steps to train longer"
        )
    return steps
