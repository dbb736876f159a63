"""The curves of what a pooling has learned."""

import pytest
import torch

from tests.helpers.tiny import tiny_module
from vse_gpo.figures.poolings import draw_curves, model_curves
from vse_gpo.pooling import GPO, Max


def test_the_curves_are_the_coefficients_of_each_size():
    model = tiny_module().model
    panels = model_curves(model, image_sizes=[3, 7], text_sizes=[5])
    assert {name: [*curves] for name, curves in panels.items()} == {"images": [3, 7], "captions": [5]}
    for curves, pooling in zip(panels.values(), (model.image_encoder.pooling, model.text_encoder.pooling), strict=True):
        for size, curve in curves.items():
            torch.testing.assert_close(curve, pooling.coefficients(torch.tensor([size]))[0].detach())


@pytest.mark.parametrize(("pooling", "panels"), [(GPO(8, 4), ["images", "captions"]), (Max(), ["images"])])
def test_poolings_without_coefficients_are_left_out(pooling, panels):
    model = tiny_module().model
    model.text_encoder.pooling = pooling
    assert [*model_curves(model, image_sizes=[2], text_sizes=[2])] == panels


def test_a_modality_without_sizes_is_left_out():
    assert [*model_curves(tiny_module().model, image_sizes=[], text_sizes=[2])] == ["captions"]


def test_a_panel_has_one_labelled_line_per_size():
    curves = {3: torch.tensor([0.5, 0.3, 0.2]), 2: torch.tensor([0.6, 0.4])}
    [panel] = draw_curves({"images": curves}).axes
    lines = {line.get_label(): line for line in panel.lines if not line.get_label().startswith("_")}
    assert [*lines] == ["2", "3"]
    for size, curve in curves.items():
        assert lines[str(size)].get_xdata().tolist() == list(range(1, size + 1))
        assert lines[str(size)].get_ydata().tolist() == pytest.approx(curve.tolist())
    assert (panel.get_xlabel(), panel.get_ylabel()) == ("rank, largest value first", "coefficient")
    legend = panel.get_legend()
    assert legend.get_title().get_text() == "images, set size"
    assert [text.get_text() for text in legend.get_texts()] == ["2", "3"]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 36])
def test_a_figure_has_a_title_and_whole_ranks(size):
    figure = draw_curves({"images": {size: torch.full([size], 1 / size)}})
    assert figure.get_suptitle() == "What the poolings have learned: coefficient of each rank"
    ticks = figure.axes[0].get_xticks()
    assert ticks.tolist() == [round(tick) for tick in ticks]
