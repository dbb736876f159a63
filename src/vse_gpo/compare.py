"""python -m vse_gpo.compare A B : whether two evaluated models really differ."""

import argparse
from pathlib import Path

from vse_gpo.commands import errors_as_lines
from vse_gpo.errors import VSEError

LEVEL = 0.05


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(
        prog="vse-compare",
        description="Compare two evaluations query by query: the difference of every score, its 95 % interval by "
        "bootstrap over the images, and the p-value of a paired permutation test.",
    )
    parser.add_argument("first", type=Path, help="folder that python -m vse_gpo.evaluate wrote")
    parser.add_argument("second", type=Path, help="another such folder, of the same test set")
    parser.add_argument("--protocol", help="one protocol; all that both have otherwise")
    parser.add_argument("--seed", type=int, default=0, help="of samples and permutations")
    arguments = parser.parse_args()
    with errors_as_lines():
        compare_evaluations(arguments.first, arguments.second, arguments.protocol, arguments.seed)


def compare_evaluations(first: Path, second: Path, protocol: str | None, seed: int) -> None:
    """Print a table for every protocol that both evaluations have.

    Raises:
        VSEError: if a folder holds no evaluation or the two do not belong to one test set.
    """
    import numpy as np
    from rich import get_console
    from rich.table import Table

    from vse_gpo.results import heading, read_queries
    from vse_gpo.retrieval.uncertainty import compare

    one, other = read_queries(first), read_queries(second)
    ours, theirs = one.outcomes, other.outcomes
    shared = [name for name in ours if name in theirs and protocol in (None, name)]
    if one.images != other.images or not shared:
        raise VSEError(
            f"{first} has {one.images} images and {', '.join(ours)}, {second} has {other.images} and "
            f"{', '.join(theirs)}: no protocol to compare; evaluate both on one test set"
        )
    if None not in (one.image_ids, other.image_ids) and one.image_ids != other.image_ids:
        raise VSEError(f"{first} and {second} have other images; evaluate both on one test set in one order")
    for name in shared:
        if not ours[name].queries:
            continue
        table = Table(title=f"{name}: {first} → {second}", title_justify="left")
        for column in ("", "first", "second", "difference", "95 % interval", "p", ""):
            table.add_column(column, justify="left" if column == "" else "right")
        for metric, gap in compare(ours[name], theirs[name], one.images, np.random.default_rng(seed)).items():
            verdict = "differ" if gap.p_value < LEVEL else "no difference shown"
            interval = f"{gap.interval.low:+.2f} to {gap.interval.high:+.2f}"
            numbers = (
                f"{gap.first:.2f}",
                f"{gap.second:.2f}",
                f"{gap.difference:+.2f}",
                interval,
                f"{gap.p_value:.4f}",
            )
            table.add_row(heading(metric), *numbers, verdict)
        get_console().print(table)


if __name__ == "__main__":
    main()
