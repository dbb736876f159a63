"""The page: whole in itself, and what comes from files is text."""

import re

import torch

from vse_gpo.reporting.page import Extra, render, score_tables
from vse_gpo.reporting.queries import Item, ShownQuery, data_uri
from vse_gpo.reporting.runs import Run, Scores, Searched

EVIL = '<script>alert(1)</script> & "quotes"'


def run(tmp_path, name: str, **changes) -> Run:
    settings = {"name": name, "seed": 0}
    scores = {"f30k_1k": Scores(metrics={"i2t_r1": 81.0, "rsum": 510.0}, intervals={"i2t_r1": (79.0, 83.0)})}
    curves = {"training loss": [(1.0, 2.0), (2.0, 1.0)]}
    known = {"name": name, "folder": tmp_path, "settings": settings, "curves": curves, "scores": scores, "best": None}
    return Run(**(known | changes))


def test_nothing_of_a_file_becomes_html(tmp_path):
    evil = ShownQuery(Item(EVIL, data_uri(torch.zeros(3, 8, 8, dtype=torch.uint8)), True), 3, [Item(EVIL, None, False)])
    extra = Extra(scores={}, poolings={EVIL: {2: [0.5, 0.5]}}, examples={EVIL: [evil]})
    page = render([run(tmp_path, EVIL), run(tmp_path, "b")], {EVIL: extra}, None, [EVIL])
    assert "<script" not in page
    assert page.count("&lt;script&gt;") > 6


def test_nothing_of_a_file_turns_the_text_around_it(tmp_path):
    evil = "a\u202eb\x1b[31m"
    shown = ShownQuery(Item(evil, None, True), 3, [Item(evil, None, False)])
    extra = Extra(scores={}, poolings={}, examples={evil: [shown]})
    page = render([run(tmp_path / evil, evil)], {evil: extra}, None, [evil])
    assert "\u202e" not in page
    assert "\x1b" not in page
    assert page.count("a\\u202eb\\x1b[31m") > 4


def test_nothing_is_fetched(tmp_path):
    page = render([run(tmp_path, "a")], {}, None, [])
    assert re.findall(r"(?:src|href)=.(?!data:)|url\(|@import|https?://", page) == []


def test_scores_stand_beside_their_intervals_and_the_published_row(tmp_path):
    page = render([run(tmp_path, "a")], {}, "f30k_butd_region", [])
    for shown in ("81.0<small>79.0–83.0</small>", "published: f30k_butd_region", "<td>81.7</td>", "<td>513.5</td>"):
        assert shown in page


def test_other_test_sets_have_tables_of_their_own(tmp_path):
    def scores(dataset: str, images: int, rsum: float) -> dict[str, Scores]:
        searched = Searched(dataset, "test", images, 5 * images)
        return {"all": Scores(metrics={"rsum": rsum}, test_set=searched)}

    runs = [
        run(tmp_path, "a", scores=scores("shapes", 500, 1.5)),
        run(tmp_path, "b", scores=scores("f8k", 1000, 2.5)),
        run(tmp_path, "c", scores=scores("shapes", 500, 3.5)),
        run(tmp_path, "d", scores=scores("shapes", 100, 4.5)),
    ]
    again = Extra(scores=scores("f8k", 1000, 5.5), poolings={}, examples={})  # what was encoded now counts
    tables = score_tables(runs, {"b": again}, None)
    found = [(table.test_set, {name: cells[0][0] for name, cells in table.rows}) for table in tables]
    assert found == [
        ("shapes · test · 500 images, 2,500 captions", {"a": "1.5", "c": "3.5"}),
        ("f8k · test · 1,000 images, 5,000 captions", {"b": "5.5"}),
        ("shapes · test · 100 images, 500 captions", {"d": "4.5"}),
    ]


def test_a_published_row_without_any_of_the_scores_is_left_out(tmp_path):
    """Of CLIP only the mean R@1 of both directions was published."""
    scores = {"coco_5k": Scores(metrics={"i2t_r1": 55.0, "rsum": 430.0}, intervals={})}
    assert "published:" not in render([run(tmp_path, "a", scores=scores)], {}, "coco_clip_vitb32", [])
