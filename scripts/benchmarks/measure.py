"""Seconds and memory of pieces of work, and tables of them."""

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
    """A table; numbers stay as they were measured, for JSON."""

    title: str
    columns: Sequence[str]
    rows: list[list[Any]]

    def show(self) -> None:
        """Print it; of numbers three digits."""
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
    """The median of some runs, after one that does not count."""
    return turn_by_turn([work], repeats)[0]


def turn_by_turn(works: Sequence[Callable[[], object]], repeats: int = 3) -> list[float]:
    """The median of each, after one run that does not count; they take turns, so that all share the machine's mood."""
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
    """What the work returns in a process of its own, whose memory nothing else has touched."""
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        return pool.apply(work, arguments)


def begin_peak() -> float:
    """MiB that this process holds at most so far; from here on the peak is counted anew."""
    Path("/proc/self/clear_refs").write_text("5")
    return peak()


def peak() -> float:
    """MiB of memory that this process has held at most."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024
