"""Measure time and memory of functions, and show them in tables."""

import multiprocessing
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

CONSOLE = Console()
MIB = 2**20


@dataclass(frozen=True)
class Measured:
    """A table; numbers stay as measured, for JSON."""

    title: str
    columns: Sequence[str]
    rows: list[list[Any]]

    def show(self) -> None:
        """Print the table; numbers with three digits."""
        table = Table(title=self.title, title_justify="left")
        for number, column in enumerate(self.columns):
            table.add_column(column, justify="left" if number == 0 else "right")
        for row in self.rows:
            table.add_row(*(_text(value) for value in row))
        CONSOLE.print(table)


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def seconds(work: Callable[[], object], repeats: int = 3) -> float:
    """Median of some runs, after one that does not count."""
    return turn_by_turn([work], repeats)[0]


def turn_by_turn(works: Sequence[Callable[[], object]], repeats: int = 3) -> list[float]:
    """Median of each, after one run that does not count; they take turns, so that all see the same machine load."""
    taken: list[list[float]] = [[] for _ in works]
    for turn in range(repeats + 1):
        for own, work in zip(taken, works, strict=True):
            start = time.perf_counter()
            work()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            if turn:
                own.append(time.perf_counter() - start)
    return [statistics.median(own) for own in taken]


def alone(work: Callable[..., Any], *arguments: Any) -> Any:
    """Run the work in a separate process with fresh memory; returns its result."""
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        return pool.apply(work, arguments)


def begin_peak() -> float:
    """Peak memory of this process so far in MiB; resets the peak."""
    Path("/proc/self/clear_refs").write_text("5")
    return peak()


def peak() -> float:
    """Peak memory of this process in MiB."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024
