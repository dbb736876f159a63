"""python -m vse_gpo.report RUN… : one HTML file that shows runs and evaluations side by side."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from vse_gpo.commands import device_of, errors_as_lines
from vse_gpo.errors import VSEError

if TYPE_CHECKING:
    from vse_gpo.reporting.page import Extra
    from vse_gpo.reporting.runs import Run

IMAGE_SIZES, TEXT_SIZES = (16, 36, 64), (5, 10, 15, 20)  # sets whose pooling is drawn


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(
        prog="vse-report",
        description="Write one HTML file on runs and evaluations: recalls with intervals, training curves, what the "
        "poolings have learned, the worst and best queries with their pictures, and which settings differ.",
    )
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="folder of vse-train or of vse-evaluate")
    parser.add_argument("--out", type=Path, default=Path("report.html"), help="file to write (report.html)")
    parser.add_argument("--published", metavar="ROW", help="published row to compare with, as coco_wsl_grid")
    parser.add_argument(
        "--queries", type=int, default=3, help="worst and best queries of each direction; 0: do not encode any data"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the intervals, and of queries that share a rank")
    arguments = parser.parse_args()
    with errors_as_lines():
        write_report(arguments.runs, arguments.out, arguments.published, arguments.queries, arguments.seed)
    print(f"written to {arguments.out}")


def write_report(folders: list[Path], out: Path, published: str | None, queries: int, seed: int) -> None:
    """Write the page of these folders, whole or not at all.

    Raises:
        VSEError: if a folder holds no run, or the published row is unknown.
    """
    from vse_gpo.published import PUBLISHED
    from vse_gpo.reporting.page import render
    from vse_gpo.reporting.runs import read_runs
    from vse_gpo.writing import write_text

    if published is not None and published not in PUBLISHED:
        raise VSEError(f"--published {published}: no such row, expected one of {', '.join(PUBLISHED)}")
    if queries < 0:
        raise VSEError(f"--queries {queries}: expected 0 or more")
    runs = named_apart([run for folder in folders for run in read_runs(folder)])
    extras: dict[str, Extra] = {}
    notes: list[str] = []
    for run in runs:
        extra = None if run.best is None else look_inside(run, run.best, queries, seed, notes)
        if extra is not None:
            extras[run.name] = extra
    write_text(out, render(runs, extras, published, notes))


def named_apart(runs: "list[Run]") -> "list[Run]":
    """The same runs; those with the name of an earlier one are numbered."""
    from dataclasses import replace

    names: list[str] = []
    for run in runs:
        name, number = run.name, 2
        while name in names:
            name, number = f"{run.name} #{number}", number + 1
        names.append(name)
    return [replace(run, name=name) for run, name in zip(runs, names, strict=True)]


def look_inside(run: "Run", best: Path, queries: int, seed: int, notes: list[str]) -> "Extra | None":
    """What the best checkpoint of a run tells; why it or its data cannot be opened becomes a note of the page."""
    from vse_gpo.callbacks.pooling_curves import model_curves
    from vse_gpo.checkpoints import load_checkpoint
    from vse_gpo.reporting.page import Extra
    from vse_gpo.reporting.queries import Tested, run_test

    try:
        model = load_checkpoint(best).to(device_of("auto"))
    except VSEError as error:
        notes.append(
            f"{run.name}: no poolings, queries and intervals, as its best checkpoint cannot be opened ({error})"
        )
        return None
    tested = Tested({}, {})
    if queries and run.settings is not None:
        try:
            tested = run_test(model, run.settings["dataset"], queries, seed)
        except VSEError as error:
            notes.append(f"{run.name}: no queries and no intervals, as its data cannot be opened ({error})")
    curves = model_curves(model, image_sizes=IMAGE_SIZES, text_sizes=TEXT_SIZES)
    return Extra(
        scores=tested.scores,
        poolings={name: {size: row.tolist() for size, row in sizes.items()} for name, sizes in curves.items()},
        examples=tested.examples,
    )


if __name__ == "__main__":
    main()
