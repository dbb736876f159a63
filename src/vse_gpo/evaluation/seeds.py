"""Runs that only differ in their seed, together: what a setting gives on average, and how sure that is."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from rich import get_console
from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from vse_gpo.errors import VSEError, printable
from vse_gpo.evaluation.query_files import Evaluated, read_queries
from vse_gpo.evaluation.results import gallery_size
from vse_gpo.retrieval.recalls import Outcome
from vse_gpo.retrieval.uncertainty import bootstrap_intervals, compare

SHOWN = {"i2t_r1": "i→t\nR@1", "t2i_r1": "t→i\nR@1", "rsum": "\nrSum"}


def average(outcomes: Sequence[Outcome]) -> Outcome:
    """One outcome in which every query has its mean score over the runs.

    Args:
        outcomes: of one protocol on one test set.
    """
    queries = []
    for same in zip(*(outcome.queries for outcome in outcomes), strict=True):
        scores = {name: np.mean([one.scores[name] for one in same], 0) for name in same[0].scores}
        queries.append(replace(same[0], scores=scores, ranks=None))
    return Outcome(queries=queries, totals=outcomes[0].totals)


def print_seeds(groups: Mapping[str, Sequence[Path]]) -> None:
    """Print the table of several seeds, if at least one run was tested.

    Args:
        groups: setting → folders of its runs; those without the queries of a test are left out.
    """
    found = {name: [one for folder in folders if (one := tested_queries(folder))] for name, folders in groups.items()}
    if any(found.values()):
        get_console().print(seeds_table({name: runs for name, runs in found.items() if runs}))


def seeds_table(found: Mapping[str, Sequence[Evaluated]], seed: int = 0) -> Table:
    """A row per setting, the best mean rSum first; beside each mean, half of its 95 % interval.

    Args:
        found: setting → the queries of its runs.
        seed: seed of the intervals and of the permutations.

    Raises:
        VSEError: if the runs were tested on different images.
    """
    every = [run for runs in found.values() for run in runs]
    protocol = next(iter(every[0].outcomes))
    if any(run.images != every[0].images or protocol not in run.outcomes for run in every):
        raise VSEError(f"runs were tested on other images than the {every[0].images} of {protocol}; compare them apart")
    means = {name: average([run.outcomes[protocol] for run in runs]) for name, runs in found.items()}
    order = sorted(means, key=lambda name: -means[name].metrics()["rsum"])
    best, images = means[order[0]], every[0].images
    table = Table(
        title=f"{protocol} · {gallery_size(every[0].outcomes[protocol])} · means over seeds\n"
        "± 95 % interval over the test images; p: paired, against the first row",
        title_justify="left",
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    for column in ("setting", "seeds", *SHOWN.values(), "lowest,\nhighest", "\np"):
        table.add_column(column, justify="left" if column == "setting" else "right", overflow="fold")
    for name in order:
        rsums = [run.outcomes[protocol].metrics()["rsum"] for run in found[name]]
        draws = np.random.default_rng(seed)
        intervals = bootstrap_intervals(means[name], images, draws)
        metrics = means[name].metrics()
        cells = (f"{metrics[one]:.1f} ± {(intervals[one].high - intervals[one].low) / 2:.1f}" for one in SHOWN)
        p = "" if name == order[0] else f"{compare(best, means[name], images, draws)['rsum'].p_value:.4f}"
        table.add_row(escape(printable(name)), str(len(rsums)), *cells, f"{min(rsums):.1f}, {max(rsums):.1f}", p)
    return table


def tested_queries(folder: Path) -> Evaluated | None:
    """The queries of a run's test; None if it was not tested."""
    try:
        return read_queries(folder)
    except VSEError:
        return None
