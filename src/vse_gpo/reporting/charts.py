"""Line charts as inline SVG; their colours come from the page, so that they follow its light and dark themes."""

from collections.abc import Mapping
from dataclasses import dataclass

from matplotlib.ticker import MaxNLocator

from vse_gpo.reporting.runs import Points

WIDTH, HEIGHT = 420, 240
LEFT, RIGHT, TOP, BOTTOM = 52, 12, 12, 40  # margins around the lines


@dataclass(frozen=True)
class Line:
    """A line of a chart: its name, the row of its colour in the page's palette, and SVG's ``points``."""

    name: str
    colour: int
    points: str


@dataclass(frozen=True)
class Chart:
    """What the page's template draws; positions are in pixels."""

    title: str
    below: str  # what the horizontal axis counts
    lines: list[Line]
    across: list[tuple[float, str]]  # position and number of each tick
    up: list[tuple[float, str]]
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    bottom: int = HEIGHT - BOTTOM
    right: int = WIDTH - RIGHT


def line_chart(title: str, series: Mapping[str, Points], below: str) -> Chart:
    """A chart of one or more lines; a line of a single point becomes a dot."""
    xs = [x for points in series.values() for x, _ in points]
    ys = [y for points in series.values() for _, y in points]
    across, up = _ticks(min(xs), max(xs)), _ticks(min(ys), max(ys))
    x_span = (min(xs[0], *xs, across[0]), max(*xs, across[-1], min(xs) + 1e-9))
    y_span = (min(*ys, up[0]), max(*ys, up[-1]))

    def x_place(x: float) -> float:
        return round(LEFT + (x - x_span[0]) / (x_span[1] - x_span[0]) * (WIDTH - LEFT - RIGHT), 1)

    def y_place(y: float) -> float:
        return round(HEIGHT - BOTTOM - (y - y_span[0]) / (y_span[1] - y_span[0]) * (HEIGHT - TOP - BOTTOM), 1)

    lines = [
        Line(name, row, " ".join(f"{x_place(x)},{y_place(y)}" for x, y in points))
        for row, (name, points) in enumerate(series.items())
    ]
    return Chart(title, below, lines, [(x_place(x), f"{x:g}") for x in across], [(y_place(y), f"{y:g}") for y in up])


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers that enclose both ends."""
    if low == high:
        low, high = low - 1, high + 1
    return [float(f"{tick:.6g}") for tick in MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)]
