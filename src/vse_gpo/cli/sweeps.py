"""A sweep's runs: names of their folders, and their ranking at the end."""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from hydra.utils import get_method

from vse_gpo.storage.card import tested_scores

LONGEST = 100  # characters of a folder's name
SEED = "seed"


class Job(NamedTuple):
    """A run of a sweep: the values that tell it from the others, and its folder."""

    values: Mapping[str, str]
    folder: Path


def job_name(values: Mapping[str, str]) -> str:
    """Name for the folder of a job, such as ``pooling-gpo_seed-0``: no sign in it needs quotes.

    A name that had to be shortened, or to lose a sign, ends in a digest of the values.

    Args:
        values: setting → value.

    Example:
        >>> job_name({"optimizer.lr": "0.001", "pooling@image_pooling": "max"})
        'lr-0.001_image_pooling-max'
    """
    whole = "_".join(f"{name}-{value}" for name, value in short_names(values).items())
    safe = re.sub(r"[^\w.+]+", "-", whole, flags=re.ASCII).strip("-")
    if safe == whole and len(whole) <= LONGEST:
        return whole
    digest = hashlib.sha256(repr(sorted(values.items())).encode()).hexdigest()[:8]
    return f"{safe[: LONGEST - 9].rstrip('-')}-{digest}"


def short_names(values: Mapping[str, str]) -> dict[str, str]:
    """The same values by the last part of each setting's name, or by the whole name where two end alike."""
    last = [re.split(r"[.@/]", name)[-1] for name in values]
    return {
        short if last.count(short) == 1 else name: value
        for short, (name, value) in zip(last, values.items(), strict=True)
    }


def print_end(folder: Path, jobs: Sequence[Job]) -> None:
    """Rank the runs by rSum on dev, and those of several seeds by their means; nothing if no job was a training.

    Args:
        folder: of the sweep.
        jobs: its jobs.
    """
    results = [(job, _results(job.folder)) for job in jobs]
    found = [(job, result) for job, result in results if "val/best_rsum" in result]
    if found:
        print("\n".join(ranking(folder, found, len(jobs))))
    groups = _seeds_of([job for job, _ in found])
    if any(len(folders) > 1 for folders in groups.values()):
        print_seeds = get_method("vse_gpo.evaluation.seeds.print_seeds")  # Hydra loads sweepers for every command
        print_seeds(groups)


def ranking(folder: Path, found: Sequence[tuple[Job, Mapping[str, Any]]], jobs: int) -> Iterator[str]:
    """Lines of the ranking.

    Args:
        folder: of the sweep.
        found: its runs with their results.
        jobs: number of jobs, those without results included.
    """
    rows = [("dev", "test", "run", "folder")]
    for job, result in sorted(found, key=lambda one: -one[1]["val/best_rsum"]):
        own = [scores["rsum"] for protocol, scores in tested_scores(result).items() if "/" not in protocol]
        test = f"{own[0]:.1f}" if own else "–"
        values = " ".join(f"{name}={value}" for name, value in short_names(job.values).items())
        rows.append((f"{result['val/best_rsum']:.1f}", test, values, job.folder.name))
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    yield f"{folder}: rSum of {len(found)} of {jobs} runs, the best on dev first"
    for dev, test, values, name in rows:
        yield f"{dev:>{widths[0]}}  {test:>{widths[1]}}  {values:<{widths[2]}}  {name}".rstrip()


def _seeds_of(jobs: Sequence[Job]) -> dict[str, list[Path]]:
    """The other values → the folders of the runs that only differ in their seed."""
    groups: dict[str, list[Path]] = {}
    for job in jobs:
        others = {name: value for name, value in job.values.items() if name != SEED}
        name = " ".join(f"{name}={value}" for name, value in short_names(others).items())
        groups.setdefault(name, []).append(job.folder)
    return groups


def _results(folder: Path) -> dict[str, Any]:
    """A run's results; empty if it has none, as it failed, or is no training."""
    with suppress(OSError, ValueError):
        results = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
        return results if isinstance(results, dict) else {}
    return {}
