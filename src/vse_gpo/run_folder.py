"""What an earlier start of the same run left in its folder: nothing, a part of the run, or all of it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from vse_gpo.commands import walk
from vse_gpo.errors import VSEError
from vse_gpo.writing import write_text

CONFIG, METRICS, LOGGED, LAST = "config.yaml", "metrics.json", "metrics.csv", "checkpoints/last.ckpt"


def finished(folder: Path, settings: Mapping[str, Any]) -> dict[str, Any] | None:
    """The results of the run if it came to its end.

    Raises:
        VSEError: if the folder holds results or checkpoints of another config.
    """
    _check_same_run(folder, settings)
    path = folder / METRICS
    results: dict[str, Any] | None = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
    return results


def checkpoint_to_go_on_from(folder: Path) -> str | None:
    """The last one of a run that was interrupted."""
    return str(folder / LAST) if (folder / LAST).is_file() else None


def keep_logged(folder: Path) -> None:
    """Give the metrics of the part before a name of their own; the logger begins its file anew."""
    if (folder / LOGGED).is_file():
        parts = len(list(folder.glob("metrics.part*.csv")))
        (folder / LOGGED).rename(folder / f"metrics.part{parts}.csv")


def write_config(folder: Path, settings: Mapping[str, Any]) -> None:
    write_text(folder / CONFIG, OmegaConf.to_yaml(OmegaConf.create(dict(settings))))


def write_results(folder: Path, results: Mapping[str, Any]) -> None:
    write_text(folder / METRICS, json.dumps(results, indent=2) + "\n")


def _check_same_run(folder: Path, settings: Mapping[str, Any]) -> None:
    if not any((folder / name).is_file() for name in (METRICS, LAST)):
        return  # nothing is lost
    if not (folder / CONFIG).is_file():
        raise VSEError(f"{folder}: holds a run without its {CONFIG}; choose another folder")
    there = dict(walk(_plain(folder / CONFIG)))
    here = dict(walk(settings))
    names = [name for name in {**there, **here} if name != "resume" and there.get(name) != here.get(name)]
    leaves = [name for name in names if not any(other.startswith(f"{name}.") for other in names)]
    if leaves:
        name = leaves[0]
        raise VSEError(
            f"{folder}: holds a run of another config, {name}={there.get(name)} where it is {here.get(name)} now; "
            "choose another folder, or set resume= to go on from its checkpoint"
        )


def _plain(path: Path) -> Mapping[str, Any]:
    settings: Any = OmegaConf.to_container(OmegaConf.load(path))
    return settings
