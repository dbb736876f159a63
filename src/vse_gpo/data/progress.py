"""The one progress bar: on stderr, so that what a command prints stays its result."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


@contextmanager
def progress_bar(task: str, *, total: int, done: int = 0) -> Iterator[Progress]:
    """A bar with a count and the time left; ``advance`` its first task.

    Args:
        task: what is being done.
        total: items in all.
        done: items that an earlier start has finished.
    """
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        progress.add_task(task, total=total, completed=done)
        yield progress


def advance(progress: Progress, items: int = 1) -> None:
    """Move the bar on by so many items."""
    progress.update(progress.task_ids[0], advance=items)
