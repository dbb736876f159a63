"""What poolings have learned: their coefficients against rank (Chen et al. 2021, figure 5)."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from vse_gpo.model import VSE
from vse_gpo.pooling.sets import WeightsRanks
from vse_gpo.storage.writing import whole_file

Curves = Mapping[int, Float[Tensor, " items"]]  # size → the coefficient of each rank


@torch.no_grad()
def model_curves(model: VSE, *, image_sizes: Sequence[int], text_sizes: Sequence[int]) -> dict[str, Curves]:
    """Curves of each modality that has sizes to draw and a pooling with coefficients."""
    panels: dict[str, Curves] = {}
    for name, encoder, sizes in (
        ("images", model.image_encoder, image_sizes),
        ("captions", model.text_encoder, text_sizes),
    ):
        if sizes and isinstance(encoder.pooling, WeightsRanks):
            lengths = torch.tensor(sizes, device=next(encoder.parameters()).device)
            table = encoder.pooling.coefficients(lengths).float().cpu()
            panels[name] = {size: row[:size] for size, row in zip(sizes, table, strict=True)}
    return panels


# drawing


def draw_curves(panels: Mapping[str, Curves]) -> Figure:
    """Draw the panels side by side, 1,600 pixels wide."""
    figure = Figure(figsize=(8, 3.5), dpi=200, layout="constrained")
    figure.suptitle("What the poolings have learned: coefficient of each rank")
    (row,) = figure.subplots(1, len(panels), squeeze=False)
    for axes, (modality, curves) in zip(row, panels.items(), strict=True):
        draw_panel(axes, curves)
        axes.legend(
            title=f"{modality}, set size",
            frameon=False,
            handlelength=1,
            columnspacing=1.2,
            ncols=len(curves),
            loc="lower center",
            bbox_to_anchor=(0.5, 1.0),
        )
    row[0].set_ylabel("coefficient")
    return figure


def draw_panel(axes: Axes, curves: Curves) -> None:
    """Draw one line per set size, darker for smaller sets, so that lightness is enough to tell them apart."""
    colours = colormaps["viridis"](np.linspace(0, 0.85, len(curves)))
    for (size, weights), colour in zip(sorted(curves.items()), colours, strict=True):
        axes.plot(range(1, size + 1), weights.tolist(), color=colour, linewidth=1.6, label=str(size))
    axes.axhline(0, color="0.8", linewidth=0.8, zorder=0)
    axes.set_xlabel("rank, largest value first")
    axes.set_xlim(left=0.5)
    axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True, min_n_ticks=1))
    axes.spines[["top", "right"]].set_visible(False)


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure, whole or not at all."""
    with whole_file(path) as file:
        figure.savefig(file, format="png")
