"""What an evaluation shows and writes: columns that fit, and queries that are read again as they were."""

import csv
import io
import json
import re

import numpy as np
import pytest
import torch
from rich.console import Console

from vse_gpo.errors import VSEError
from vse_gpo.evaluation.annotated import read_annotations
from vse_gpo.evaluation.query_files import read_queries
from vse_gpo.evaluation.results import Result, cell, gallery_size, heading, latex, tables, write_results
from vse_gpo.evaluation.scoring import score
from vse_gpo.retrieval.embeddings import Encoded, encoded
from vse_gpo.retrieval.ranks import Ranks
from vse_gpo.retrieval.recalls import Outcome, recall_outcome
from vse_gpo.retrieval.uncertainty import Interval

IDS = ["n1", "n2", "n3", "n4", "n5"]


@pytest.fixture(scope="module")
def five_images() -> Encoded:
    """Five images with two captions each."""
    draws = torch.Generator().manual_seed(0)
    images = torch.randn(5, 4, generator=draws)
    captions = images.repeat_interleave(2, 0) + torch.randn(10, 4, generator=draws)
    return encoded(images, captions, caption_to_image=np.arange(5).repeat(2), image_ids=IDS)


@pytest.fixture(scope="module")
def scored(five_images) -> list[Result]:
    return score({"ours_a": five_images}, ["all"], read_annotations(["all"]))


def result(metrics: dict[str, float], **changes: object) -> Result:
    outcome = Outcome(others=metrics)
    settings = {"source": "ours", "protocol": "all", "variant": "", "outcome": outcome, "intervals": {}}
    return Result(**(settings | {"published": {}} | changes))


def printed(results: list[Result]) -> str:
    console = Console(width=110, record=True, file=io.StringIO())
    for table in tables(results):
        console.print(table)
    return console.export_text()


def test_metrics_have_the_headings_of_papers():
    names = ("i2t_r1", "t2i_map_at_r", "t2t_rprecision", "rsum", "map_at_r", "sts")
    assert [heading(name) for name in names] == ["i→t R@1", "t→i mAP@R", "t→t R-P", "rSum", "mAP@R", "STS"]


@pytest.mark.parametrize(
    ("metrics", "intervals", "shown"),
    [
        ({"rsum": 512.34}, {}, "512.3"),
        ({"rsum": 512.34}, {"rsum": Interval(510.0, 514.0)}, "512.3\n[dim]± 2.0[/dim]"),
        ({"rsum": 74.2, "rsum_std": 0.41}, {}, "74.2\n[dim]± 0.4[/dim]"),
        ({}, {}, ""),
    ],
)
def test_a_number_stands_above_how_sure_it_is(metrics, intervals, shown):
    assert cell(result(metrics, intervals=intervals), "rsum") == shown


def test_a_table_shows_the_published_row_and_the_difference():
    shown = printed([result({"i2t_r1": 80.0, "rsum": 500.0, "i2t_medr": 1.0}, published={"i2t_r1": 81.5})])
    lines = {line.split("│")[1].strip(): line for line in shown.splitlines() if line.startswith("│")}
    assert "81.5" in lines["published"]
    assert "-1.5" in lines["difference"]
    assert "medr" not in shown.lower()


def test_a_table_says_what_was_searched_and_what_chance_gives(scored):
    shown = printed(scored)
    assert "all · 5 images, 10 captions" in shown
    [chance] = [line for line in shown.splitlines() if line.startswith("│ chance ")]
    assert [part.strip() for part in chance.split("│")[5:7]] == ["20.0", "100.0"]  # t→i R@1 and R@5 of five images


def test_folds_are_counted():
    folds = np.array([0, 0, 1, 1])
    ranks = Ranks(np.zeros(4, dtype=np.int64), np.zeros(4, dtype=np.int64))
    assert gallery_size(recall_outcome(ranks, np.arange(4), folds)) == "4 images, 4 captions in 2 folds"
    assert gallery_size(Outcome()) == ""


def test_more_columns_than_a_terminal_holds_become_several_tables():
    names = [f"{direction}_r{k}" for direction in ("i2t", "t2i", "t2t", "i2i") for k in (1, 5, 10)]
    everything = result(dict.fromkeys([*names, "rsum"], 50.0))
    assert len(tables([everything])) == 2
    assert all(heading(name).split()[0] in printed([everything]) for name in names)


def test_a_row_for_latex_escapes_what_latex_would_read(scored):
    row = latex(scored[0])
    heads, numbers = row.splitlines()
    assert heads.startswith(r"% all: i$\to$t R@1 & ")
    assert numbers.startswith(r"ours\_a & ")
    assert numbers.count("&") == heads.count("&") + 1
    assert numbers.endswith(r" \\")


def test_what_is_written_is_read_again(scored, five_images, tmp_path):
    write_results(tmp_path, scored, {"ours_a": five_images})
    found = read_queries(tmp_path)
    assert (found.images, found.image_ids) == (5, IDS)
    assert found.outcomes["all"].metrics() == scored[0].metrics
    for ours, again in zip(scored[0].outcome.queries, found.outcomes["all"].queries, strict=True):
        assert ours.direction == again.direction
        np.testing.assert_array_equal(ours.ranks, again.ranks)
        np.testing.assert_array_equal(ours.owners, again.owners)
    metrics = json.loads((tmp_path / "metrics.json").read_text())["ours_a"]["all"]
    assert metrics["metrics"] == scored[0].metrics
    with (tmp_path / "queries.csv").open() as file:
        ranks = {(line["direction"], line["id"]): line["rank"] for line in csv.DictReader(file)}
    assert [ranks["i2t", name] for name in IDS] == [str(rank + 1) for rank in scored[0].outcome.queries[0].ranks]


def test_several_sources_lie_in_folders_of_their_own(scored, five_images, tmp_path):
    write_results(tmp_path, scored, {"ours_a": five_images, "b": five_images})
    assert (tmp_path / "ours_a" / "queries.npz").is_file()
    with pytest.raises(VSEError, match=re.escape(f"{tmp_path}: no evaluation of one model")):
        read_queries(tmp_path)
