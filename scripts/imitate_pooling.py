"""python scripts/imitate_pooling.py OUT : train only GPO's coefficients to imitate those of known poolings.

The synthetic check of Chen et al. 2021 (supplement, table 6): train on set sizes 20 to 100, test on 10 to 120 by the
root mean square error of the coefficients. Writes OUT/imitation.json and OUT/imitation.png.
"""

import argparse
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int, Shaped
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table
from torch import Tensor

from vse_gpo.batch import valid_items
from vse_gpo.errors import VSEError, first_line
from vse_gpo.evaluation.published import published_ablations
from vse_gpo.figures.poolings import draw_panel, save_figure
from vse_gpo.pooling import GPO
from vse_gpo.storage.writing import write_text

# ranks (items,) from 1 and sizes (sizes, 1) → weight of each rank, before a row is divided by its sum
Pattern = Callable[[Int[Tensor, " items"], Int[Tensor, "sizes 1"]], Shaped[Tensor, "..."]]
PATTERNS: dict[str, Pattern] = {
    "mean": lambda ranks, _: torch.ones_like(ranks),
    "max": lambda ranks, _: ranks == 1,
    "top 10": lambda ranks, _: ranks <= 10,
    "top 50 %": lambda ranks, sizes: 2 * ranks <= sizes + 1,  # for an odd size, the larger half
    "linear": lambda ranks, sizes: sizes + 1 - ranks,
}
RANGES = {"seen": range(20, 101), "smaller": range(10, 20), "larger": range(101, 121)}
PUBLISHED = {
    name: {part: scores["rmse"] for part, scores in parts.items()}
    for name, parts in published_ablations()["imitate_pooling"].entries.items()
}
SIZES_PER_STEP = 16
SIZES_DRAWN = [10, 20, 50, 100, 120]


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=150, help="training steps per pattern")
    parser.add_argument("--lr", type=float, default=1e-3)
    chosen = parser.parse_args()
    try:
        run(chosen.out, {"seed": chosen.seed, "steps": chosen.steps, "lr": chosen.lr})
    except VSEError as error:
        sys.exit(f"error: {error}")


def run(out: Path, settings: Mapping[str, Any]) -> None:
    """Train on every pattern, write the results and print the table."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise VSEError(f"{out}: cannot be written ({first_line(error)}), expected a folder") from error
    trained = {name: imitate(pattern, **settings) for name, pattern in PATTERNS.items()}
    errors = {
        name: {part: rmse(pooling, PATTERNS[name], sizes) for part, sizes in RANGES.items()}
        for name, pooling in trained.items()
    }
    results = {"settings": settings, "rmse": errors, "published": PUBLISHED}
    write_text(out / "imitation.json", json.dumps(results, indent=2) + "\n")
    save_figure(draw(trained), out / "imitation.png")
    Console().print(error_table(errors))


def target(pattern: Pattern, sizes: Int[Tensor, " sizes"]) -> Float[Tensor, "sizes items"]:
    """The coefficients to imitate: each row sums to 1 and is zero past its size."""
    items = int(sizes.max())
    shares = pattern(torch.arange(1, items + 1), sizes[:, None]) * valid_items(sizes, items)
    return shares / shares.sum(1, keepdim=True)


def imitate(pattern: Pattern, *, seed: int, steps: int, lr: float) -> GPO:
    """Train on some of the seen sizes in each step, by the squared error of their coefficients.

    The training is short: later, "top 50 %" still improves on the seen sizes but gets worse on smaller ones, from 0.006
    and 0.041 after 150 steps to 0.003 and 0.089 after 300. The published numbers lie on the same path.
    """
    torch.manual_seed(seed)  # for the initial weights
    draws = torch.Generator().manual_seed(seed)
    pooling = GPO()
    optimizer = torch.optim.Adam(pooling.parameters(), lr=lr)
    seen = torch.tensor(RANGES["seen"])
    for _ in range(steps):
        sizes = seen[torch.randperm(len(seen), generator=draws)[:SIZES_PER_STEP]]
        loss = (pooling.coefficients(sizes) - target(pattern, sizes)).square().sum(1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return pooling


@torch.no_grad()
def rmse(pooling: GPO, pattern: Pattern, sizes: range) -> float:
    """RMSE over every coefficient of every size: a size of 100 counts ten times as much as a size of 10."""
    lengths = torch.tensor(sizes)
    errors = pooling.coefficients(lengths) - target(pattern, lengths)
    return float((errors.square().sum() / lengths.sum()).sqrt())


def error_table(errors: Mapping[str, Mapping[str, float]]) -> Table:
    """Our errors, the published ones and the differences, for each pattern and range of sizes."""
    table = Table(title="RMSE of the coefficients", title_justify="left")
    table.add_column("imitated")
    for part, sizes in RANGES.items():
        table.add_column(f"{part}\n{sizes[0]}–{sizes[-1]}", justify="right")
    for name, ours in errors.items():
        published = PUBLISHED[name]
        table.add_row(name, *(f"{ours[part]:.4f}" for part in RANGES))
        table.add_row("  published", *(f"{published[part]:.3f}" for part in RANGES))
        table.add_row("  difference", *(f"{ours[part] - published[part]:+.4f}" for part in RANGES), end_section=True)
    return table


# drawing


@torch.no_grad()
def draw(trained: Mapping[str, GPO]) -> Figure:
    """Draw a panel per pattern, with a line per size."""
    figure = Figure(figsize=(8, 4.6), dpi=200, layout="constrained")
    *panels, corner = figure.subplots(2, 3).flat
    for axes, (name, pooling) in zip(panels, trained.items(), strict=True):
        axes.set_title(name, fontsize="medium")
        draw_imitation(axes, pooling, PATTERNS[name])
    lines, labels = panels[0].get_legend_handles_labels()
    corner.legend(lines, labels, title="set size", frameon=False, loc="center")
    corner.axis("off")
    figure.supylabel("coefficient", fontsize="medium")
    return figure


def draw_imitation(axes: Axes, pooling: GPO, pattern: Pattern) -> None:
    """Draw the learned coefficients, and the expected ones as dotted lines."""
    lengths = torch.tensor(SIZES_DRAWN)
    learned, expected = pooling.coefficients(lengths), target(pattern, lengths)
    draw_panel(axes, {size: row[:size] for size, row in zip(SIZES_DRAWN, learned, strict=True)})
    for size, row in zip(SIZES_DRAWN, expected, strict=True):
        axes.plot(range(1, size + 1), row[:size].tolist(), ":", color="black", linewidth=1)
    axes.lines[-1].set_label("the pattern")


if __name__ == "__main__":
    main()
