"""One page that shows several runs and evaluations side by side."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from vse_gpo.batch import choose_device
from vse_gpo.checkpoints.sources import load_model
from vse_gpo.errors import VSEError
from vse_gpo.evaluation.published import published_row
from vse_gpo.figures.poolings import model_curves
from vse_gpo.reporting.page import Extra, render
from vse_gpo.reporting.queries import Tested, run_test
from vse_gpo.reporting.runs import Run, find_runs
from vse_gpo.storage.writing import write_text

TEXT_SIZES = (5, 10, 15, 20, 25)  # words, where a run does not say which it draws


def write_report(
    *, runs: str | Sequence[str], out: str, published: str | None, queries: int, seed: int, accelerator: str
) -> None:
    """Write the page, whole or not at all.

    Args:
        runs: folders of trainings or of evaluations, or folders of such, as a sweep's.
        out: HTML file.
        published: published row to compare with.
        queries: number of worst and of best queries of each direction; 0 encodes no data.
        seed: seed of the intervals, and of the choice among queries that share a rank.
        accelerator: ``cpu`` keeps off the GPU.

    Raises:
        VSEError: if a folder holds no run, or the published row is unknown.
    """
    if published is not None:
        published_row(published)
    if queries < 0:
        raise VSEError(f"queries={queries}: expected 0 or more")
    folders = [Path(folder).expanduser() for folder in ([runs] if isinstance(runs, str) else runs)]
    read, left_out = zip(*(find_runs(folder) for folder in folders), strict=True)
    found = named_apart([run for runs_of_one in read for run in runs_of_one])
    extras: dict[str, Extra] = {}
    notes = [f"left out: {line}" for lines in left_out for line in lines]
    for run in found:
        extra = None if run.best is None else look_inside(run, run.best, queries, seed, notes, accelerator)
        if extra is not None:
            extras[run.name] = extra
    write_text(Path(out).expanduser(), render(found, extras, published, notes))
    print(f"written to {out}")


def named_apart(runs: list[Run]) -> list[Run]:
    """The same runs; a run with the name of an earlier one gets a number."""
    names: list[str] = []
    for run in runs:
        name, number = run.name, 2
        while name in names:
            name, number = f"{run.name} #{number}", number + 1
        names.append(name)
    return [replace(run, name=name) for run, name in zip(runs, names, strict=True)]


def look_inside(run: Run, best: Path, queries: int, seed: int, notes: list[str], accelerator: str) -> Extra | None:
    """What a run's best checkpoint adds; if it or its data cannot be opened, the page gets a note that says why."""
    try:
        model = load_model(best).to(choose_device(accelerator))
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
    image_sizes, text_sizes = drawn_sizes(run.settings or {})
    curves = model_curves(model, image_sizes=image_sizes, text_sizes=text_sizes)
    return Extra(
        scores=tested.scores,
        poolings={name: {size: row.tolist() for size, row in sizes.items()} for name, sizes in curves.items()},
        examples=tested.examples,
    )


def drawn_sizes(settings: Mapping[str, Any]) -> tuple[Sequence[int], Sequence[int]]:
    """Set sizes of images and captions that a run draws its poolings at, or would, if it draws none.

    Args:
        settings: of the run.
    """
    callback = settings.get("callbacks", {}).get("pooling_curves")
    if callback is not None:
        return callback["image_sizes"], callback["text_sizes"]
    return settings.get("backbone", {}).get("set_sizes", []), TEXT_SIZES
