"""Test query by query whether two evaluated models really differ."""

from pathlib import Path

import numpy as np
from rich import get_console
from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from vse_gpo.errors import VSEError, printable
from vse_gpo.evaluation.query_files import Evaluated, read_queries
from vse_gpo.evaluation.results import gallery_size, heading
from vse_gpo.retrieval.recalls import Outcome
from vse_gpo.retrieval.uncertainty import compare

LEVEL = 0.05


def compare_evaluations(*, first: str, second: str, protocol: str | None, against: str | None, seed: int) -> None:
    """Print a table for every protocol that both evaluations have, or for one of each.

    Args:
        first, second: folders that ``vse-evaluate`` or ``vse-train`` wrote.
        protocol: one protocol; None takes all that both have.
        against: protocol of the second, if it is another one on the same queries, such as ``f30k_1k+rerank50``.
        seed: seed of the bootstrap samples and the permutations.

    Raises:
        VSEError: if a folder holds no evaluation, or the two are of different test sets.
    """
    if against is not None and protocol is None:
        raise VSEError(f"against={against}, but no protocol=NAME of the first to compare it with")
    one, other = read_queries(Path(first).expanduser()), read_queries(Path(second).expanduser())
    for name, its in shared_protocols(one, other, protocol, against, first, second):
        if one.outcomes[name].queries:
            ours, theirs = one.outcomes[name], other.outcomes[its]
            other_name = "" if its == name else f" · {its}"
            lines = (f"{name} · {gallery_size(ours)}", f"first: {first}", f"second: {second}{other_name}")
            title = "\n".join(escape(printable(line)) for line in lines)
            get_console().print(gap_table(title, ours, theirs, one.images, seed))


def shared_protocols(
    one: Evaluated, other: Evaluated, protocol: str | None, against: str | None, first: str, second: str
) -> list[tuple[str, str]]:
    """The protocols that both evaluations have: the name in each.

    Raises:
        VSEError: if they share no protocol, or are of different test sets.
    """
    pairs = [(name, against or name) for name in one.outcomes if protocol in (None, name)]
    shared = [pair for pair in pairs if pair[1] in other.outcomes]
    if one.images != other.images or not shared:
        raise VSEError(
            f"{first} has {one.images} images and {', '.join(one.outcomes)}, {second} has {other.images} and "
            f"{', '.join(other.outcomes)}: no protocol to compare; evaluate both on one test set"
        )
    if None not in (one.image_ids, other.image_ids) and one.image_ids != other.image_ids:
        raise VSEError(f"{first} and {second} have different images; evaluate both on one test set in one order")
    return shared


def gap_table(title: str, ours: Outcome, theirs: Outcome, images: int, seed: int) -> Table:
    """Scores of both, their differences with 95 % intervals, and p-values of a paired permutation test."""
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))  # 80 columns hold it
    for column in ("", "first", "second", "change", "95 % interval", "p", ""):
        table.add_column(column, justify="left" if column == "" else "right")
    for metric, gap in compare(ours, theirs, images, np.random.default_rng(seed)).items():
        table.add_row(
            heading(metric),
            f"{gap.first:.2f}",
            f"{gap.second:.2f}",
            f"{gap.difference:+.2f}",
            f"{gap.interval.low:+.2f} to {gap.interval.high:+.2f}",
            f"{gap.p_value:.4f}",
            "differ" if gap.p_value < LEVEL else "not shown",
        )
    return table
