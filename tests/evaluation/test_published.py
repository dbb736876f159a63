"""Published numbers: percentages that add up, and names that are found or refused."""

import pytest

from vse_gpo.errors import VSEError
from vse_gpo.evaluation.published import published_ablations, published_row, published_rows

RECALLS = [f"{direction}_r{k}" for direction in ("i2t", "t2i") for k in (1, 5, 10)]


@pytest.mark.parametrize("name", published_rows())
def test_a_row_holds_percentages_whose_sum_is_its_rsum(name):
    row = published_row(name)
    assert row.source
    for protocol, scores in row.protocols.items():
        assert all(0 < value <= 100 for metric, value in scores.items() if metric != "rsum"), protocol
        if all(metric in scores for metric in (*RECALLS, "rsum")):  # rounded to one digit each
            assert sum(scores[metric] for metric in RECALLS) == pytest.approx(scores["rsum"], abs=0.35)


def test_an_ablation_takes_the_numbers_of_the_rows_that_it_names():
    cells = [
        scores
        for ablation in published_ablations().values()
        for columns in ablation.entries.values()
        for scores in columns.values()
    ]
    assert cells
    assert all(scores and all(isinstance(value, float) for value in scores.values()) for scores in cells)


def test_an_unknown_row_is_told_with_the_one_that_was_meant():
    with pytest.raises(
        VSEError, match=r"^published=coco_wsl_gird: no such row \(did you mean coco_wsl_grid"
    ):
        published_row("coco_wsl_gird")
