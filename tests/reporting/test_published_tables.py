"""The tables of the documentation: every published number is there, in the line of its model."""

import re

import pytest

from vse_gpo.evaluation.published import PublishedRow, published_ablations, published_rows
from vse_gpo.reporting.published_tables import ablation_table, ablations_section, protocols_table, rows_table


def lines_of(table: str) -> list[list[str]]:
    """The cells of a Markdown table whose lines are of one width, without the rule below the heading."""
    lines = [line.removeprefix("| ").removesuffix(" |").split(" | ") for line in table.splitlines()]
    assert {len(line) for line in lines} == {len(lines[0])}
    assert lines[1] == ["---"] * len(lines[0])
    return [lines[0], *lines[2:]]


@pytest.mark.parametrize("row", published_rows().values(), ids=published_rows())
def test_the_tables_give_every_published_number(row: PublishedRow):
    cells = [
        cell
        for table in (rows_table(), protocols_table())
        for line in lines_of(table)
        if line[1] == row.model
        for cell in line
    ]
    given = {float(number) for cell in cells for number in re.findall(r"\d+\.\d+", cell)}
    assert {value for metrics in row.protocols.values() for value in metrics.values()} <= given


def test_a_line_names_the_rows_of_its_model():
    names = [line[0] for line in lines_of(rows_table())]
    assert names[:2] == ["row", "`coco_butd_region`, `f30k_…`"]
    assert "`coco_wsl_grid_ensemble`, `f30k_…` (no experiment)" in names
    assert "`coco_vsepp_butd_grid_bigru`" in names  # nothing was published on Flickr30K
    assert all("f30k" not in line[0] for line in lines_of(protocols_table()))


def test_a_cell_gives_directions_between_commas_and_dashes_for_what_is_missing():
    cells = {line[1]: line[2:] for line in lines_of(rows_table())}
    assert cells["VSE∞, BUTD region + BERT"] == [
        "79.7 / 96.4, 64.8 / 91.4",
        "527.5",
        "81.7 / 95.4, 61.4 / 85.9",
        "513.5",
    ]
    assert cells["VSE++, BUTD grid + BiGRU"] == ["72.4 / –, 58.9 / –", "", "", ""]
    cells = {line[1]: line[2:] for line in lines_of(protocols_table())}
    assert cells["DE, EfficientNet-B4 + BERT"][3:] == [
        "55.9 / 84.2, 41.7 / 72.3, 42.6 / 64.9, 38.5 / 73.6",
        "74.2, 74.5, 61.9",
        "",
    ]
    assert cells["VSE∞, CLIP ViT-B/32"] == ["", "", "55.2", "", "", "40.0, –"]


@pytest.mark.parametrize("name", published_ablations())
def test_a_comparison_gives_every_number_in_its_line(name):
    lines = {line[0]: " | ".join(line) for line in lines_of(ablation_table(name))[1:]}
    for entry, scores in published_ablations()[name].entries.items():
        given = [float(number) for number in re.findall(r"\d+\.\d+", lines[entry])]
        assert {value for metrics in scores.values() for value in metrics.values()} <= set(given)


def test_learned_parameters_stand_beside_the_pooling():
    head, mean, seq2seq, *_ = lines_of(ablation_table("image_aggregators"))
    assert head == ["images", "parameters", "BUTD region", "BUTD grid"]
    assert mean == ["mean", "0", "68.5, 54.0", "72.4, 58.9"]
    assert seq2seq == ["seq2seq", "6.3 M", "69.9, 58.5", "73.3, 61.5"]


def test_each_comparison_says_what_it_is_and_how_to_repeat_it():
    section = ablations_section()
    assert re.findall("^### (.*)", section, re.MULTILINE) == [*published_ablations()]
    assert (
        "### kmax\n\nK-max pooling of images and captions (N is all items), BUTD region + BiGRU. COCO 1K 5-fold rSum "
        "(Chen et al. 2021, figure 6). `sweep=kmax` with `experiment=coco_vsepp_butd_region_bigru`.\n\n"
        "| images / captions | K = 1 |"
    ) in section
    assert all(ablation_table(name) in section for name in published_ablations())
