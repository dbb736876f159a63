"""The one progress bar, on stderr, so that stdout holds only a command's result."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from vse_gpo.errors import printable


class RateColumn(ProgressColumn):
    """Items a second."""

    def render(self, task: Task) -> Text:
        """The rate of late, at the end that of the whole."""
        rate = task.finished_speed or task.speed
        return Text("" if rate is None else f"{rate:,.3g}/s", style="progress.data.speed")


@contextmanager
def progress_bar(task: str, *, total: int, done: int = 0) -> Iterator[Progress]:
    """Show a bar with a count, the rate and the remaining time; move it with ``advance``.

    Args:
        task: label of the bar.
        total: number of items.
        done: number of items that an earlier start finished.
    """
    description = TextColumn("{task.description}", markup=False)
    columns = (description, BarColumn(), MofNCompleteColumn(), RateColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        progress.add_task(printable(task), total=total, completed=done)
        yield progress


def advance(progress: Progress, items: int = 1) -> None:
    """Move the bar by this many items."""
    progress.update(progress.task_ids[0], advance=items)
