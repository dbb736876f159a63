"""The published numbers: every row can be named, and none stands there twice."""

import re
from collections import Counter

import pytest
import yaml

from vse_gpo.errors import VSEError
from vse_gpo.evaluation.annotated import ANNOTATED
from vse_gpo.evaluation.published import FILE, published_ablations, published_row, published_rows
from vse_gpo.retrieval.protocols import PROTOCOLS

METRICS = {f"{direction}_{score}" for direction in ("i2t", "t2i", "t2t", "i2i") for score in ("r1", "r5")}
METRICS |= {"rsum", "r1", "map_at_r", "rprecision", "sts", "sis", "sits"}


def test_a_row_has_its_numbers_by_protocol():
    row = published_row("f30k_butd_region")
    assert (row.name, row.model, row.experiment) == ("f30k_butd_region", "VSE∞, BUTD region + BERT", "f30k_butd_region")
    assert row.protocols == {"f30k_1k": {"i2t_r1": 81.7, "i2t_r5": 95.4, "t2i_r1": 61.4, "t2i_r5": 85.9, "rsum": 513.5}}


def test_an_unknown_row_is_refused_with_the_nearest_and_all_there_are():
    message = "published=coco_wsl_gird: no such row (did you mean coco_wsl_grid?); there are coco_butd_region, "
    with pytest.raises(VSEError, match=f"^{re.escape(message)}"):
        published_row("coco_wsl_gird")


@pytest.mark.parametrize("name", published_rows())
def test_a_row_gives_scores_of_known_protocols_and_where_they_are_from(name):
    row = published_row(name)
    assert row.source
    assert row.protocols.keys() <= {*PROTOCOLS, *ANNOTATED}
    for metrics in row.protocols.values():
        assert metrics.keys() <= METRICS
        assert all(0 < value < (600 if metric == "rsum" else 100) for metric, value in metrics.items())
        assert all(metrics[f"{way}_r1"] < metrics[f"{way}_r5"] for way in ("i2t", "t2i") if f"{way}_r5" in metrics)


def test_the_recalls_of_a_row_leave_room_for_its_sum():
    """R@10 of both directions, which is not given, lies between R@5 and 100."""
    for row in published_rows().values():
        for metrics in row.protocols.values():
            if {"rsum", "i2t_r5"} <= metrics.keys():
                given = [metrics[f"{way}_{score}"] for way in ("i2t", "t2i") for score in ("r1", "r5")]
                assert given[1] + given[3] < metrics["rsum"] - sum(given) < 200


def test_every_protocol_of_a_row_and_every_cell_of_a_comparison_is_written_once():
    numbers = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    written = [
        (protocol, tuple(metrics.values()))
        for row in numbers["rows"].values()
        for protocol, metrics in row["protocols"].items()
    ]
    written += [
        (ablation["protocol"], tuple(cell))
        for ablation in numbers["ablations"].values()
        for cells in ablation["entries"].values()
        for cell in cells
        if isinstance(cell, list) and len(cell) > 1
    ]
    assert [numbers for numbers, count in Counter(written).items() if count > 1] == []


@pytest.mark.parametrize("name", published_ablations())
def test_a_comparison_has_its_metrics_in_every_cell(name):
    ablation = published_ablations()[name]
    assert set(ablation.metrics) <= METRICS | {"rmse"}
    assert ablation.parameters.keys() <= ablation.entries.keys()
    for scores in ablation.entries.values():
        assert scores
        assert scores.keys() <= set(ablation.columns)
        assert all([*metrics] == ablation.metrics for metrics in scores.values())


def test_a_comparison_takes_the_numbers_of_the_rows_that_it_names():
    entries = published_ablations()["aggregators"].entries
    assert entries["GPO"] == {"first": {"i2t_r1": 73.8, "t2i_r1": 59.2}, "GPO": {"i2t_r1": 79.7, "t2i_r1": 64.8}}
    grid = published_ablations()["image_aggregators"].entries["mean"]["BUTD grid"]
    assert grid == published_row("coco_vsepp_butd_grid_bigru").protocols["coco_1k_5fold"]
