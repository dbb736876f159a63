"""Means over seeds: every query counts once, and what is sure of the rest stands beside them."""

import io

import numpy as np
import pytest
from rich.console import Console

from vse_gpo.errors import VSEError
from vse_gpo.evaluation.query_files import QUERIES, Evaluated, write_queries
from vse_gpo.evaluation.seeds import average, print_seeds, seeds_table
from vse_gpo.retrieval.ranks import Ranks
from vse_gpo.retrieval.recalls import recall_outcome
from vse_gpo.retrieval.uncertainty import bootstrap_intervals

IMAGES = 50


def evaluated(seed: int, *, best: int = 20, images: int = IMAGES) -> Evaluated:
    """Random ranks, the lower the better the model."""
    draws = np.random.default_rng(seed)
    ranks = Ranks(draws.integers(best, size=images), draws.integers(best, size=2 * images))
    outcome = recall_outcome(ranks, np.arange(images).repeat(2))
    return Evaluated(images=images, image_ids=None, outcomes={"all": outcome})


def test_the_mean_outcome_has_the_mean_metrics():
    outcomes = [evaluated(seed).outcomes["all"] for seed in range(3)]
    metrics = average(outcomes).metrics()
    assert metrics["rsum"] == pytest.approx(np.mean([one.metrics()["rsum"] for one in outcomes]))
    for query in range(IMAGES):
        mean = np.mean([one.queries[0].scores["r5"][query] for one in outcomes])
        assert average(outcomes).queries[0].scores["r5"][query] == pytest.approx(mean)


def lines(groups: dict[str, list[Evaluated]]) -> dict[str, list[str]]:
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(seeds_table(groups))
    text = console.export_text()
    assert "…" not in text
    return {line.split()[0]: line.split() for line in text.splitlines() if line.strip()}


def test_the_best_setting_comes_first_and_a_worse_one_is_told_from_it():
    runs = {
        "worse": [evaluated(0, best=40), evaluated(1, best=40)],
        "better": [evaluated(2), evaluated(3)],
        "equal": [evaluated(2)],
    }
    found = lines(runs)
    assert [name for name in found if name in runs].index("worse") == 2
    mean = average([run.outcomes["all"] for run in runs["worse"]])
    low, high = bootstrap_intervals(mean, IMAGES, np.random.default_rng(0))["rsum"]
    row = found["worse"]
    assert (row[1], row[8:11]) == ("2", [f"{mean.metrics()['rsum']:.1f}", "±", f"{(high - low) / 2:.1f}"])
    assert [float(number.strip(",")) for number in row[11:13]] == sorted(
        round(run.outcomes["all"].metrics()["rsum"], 1) for run in runs["worse"]
    )
    assert (
        float(row[13])
        < 0.05
        < float(found["equal" if "equal" in found and len(found["equal"]) == 14 else "better"][13])
    )


def test_other_test_images_are_refused():
    with pytest.raises(VSEError, match="runs were tested on other images than the 50 of all; compare them apart"):
        seeds_table({"a": [evaluated(0)], "b": [evaluated(0, images=51)]})


def test_a_run_without_a_test_is_left_out(tmp_path, capsys):
    (tmp_path / "a").mkdir()
    write_queries(tmp_path / "a" / QUERIES, evaluated(0))
    print_seeds({"max": [tmp_path / "a", tmp_path / "b"], "mean": [tmp_path / "c"]})
    printed = capsys.readouterr().out
    assert "max" in printed
    assert "mean " not in printed
    print_seeds({"mean": [tmp_path / "c"]})
    assert capsys.readouterr().out == ""
