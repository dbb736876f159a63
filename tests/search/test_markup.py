"""An answer as HTML: whatever names and captions hold is text."""

import base64
import re
from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image

from tests.helpers.photo_folder import paint, small_model
from tests.helpers.photo_index import HOSTILE, indexed
from vse_gpo.search.answers import Answer, Answers
from vse_gpo.search.facets import Span
from vse_gpo.search.fitting import Judgement
from vse_gpo.search.heat import WHOLE, Box
from vse_gpo.search.index import Hit
from vse_gpo.search.items import Compaction
from vse_gpo.search.markup import (
    PageQuery,
    answer_markup,
    chart_markup,
    draw_image,
    line_markup,
    painted_maps,
    timeline_markup,
)
from vse_gpo.search.pictures import open_picture

CAPTIONS = ["a red circle", "a blue square", "", "a red circle", "<b>a heart</b>"]


def all_of(height: int, width: int) -> Box:
    return WHOLE


def test_names_and_captions_are_text(index, model):
    answers = Answers(index, model, CAPTIONS)
    row = index.names.to_pylist().index(HOSTILE)
    asked = PageQuery(answers.result(row), HOSTILE, index.path(HOSTILE))
    markup = answer_markup(index, asked, answers.answer(asked.query, 6), 12.3, kept=all_of)
    query = answers.text("a heart")
    markup += answer_markup(index, PageQuery(query), answers.answer(query, 6), 1.0, kept=all_of)
    assert "<img src=x" not in markup
    assert "<b>a heart" not in markup
    assert "&lt;b&gt;a heart&lt;/b&gt;" in markup
    assert "&lt;img src=x onerror=alert(1)&gt;" in markup
    assert "5 of 6 images in 12 ms" in markup


def test_a_lost_picture_and_one_that_leads_out_are_said_in_its_place(index, model, tmp_path):
    (tmp_path / "pictures" / "0.png").unlink()
    (tmp_path / "pictures" / "1.png").unlink()
    (tmp_path / "secret.png").write_bytes(paint(tmp_path / "x.png", 9).read_bytes())
    (tmp_path / "pictures" / "1.png").symlink_to(tmp_path / "secret.png")
    answers = Answers(index, model)
    query = answers.text("a heart")
    markup = answer_markup(index, PageQuery(query), answers.answer(query, 6), 1.0, kept=all_of)
    assert markup.count("<img ") == 4
    assert "no such file or directory" in markup
    assert "refused: it leads out of the folder" in markup


@pytest.mark.parametrize(("score", "width"), [(0.5, "50.0%"), (-0.3, "0.0%"), (1.00001, "100.0%")])
def test_a_bar_stays_in_its_frame(score, width, index, model):
    query = Answers(index, model).text("a heart")
    for answer in (Answer([Hit(0, "0.png", score)], []), Answer([], [("a caption", score)])):
        assert f'style="width: {width}"' in answer_markup(index, PageQuery(query), answer, 1.0, kept=all_of)


def test_each_word_has_a_map_over_each_image_where_the_model_sees_it(tmp_path):
    for seed in range(3):
        paint(tmp_path / "pictures" / f"{seed}.png", seed)  # 40×30 pixels
    model = small_model(interaction="MaxSim")
    index = indexed(tmp_path, model, Compaction(5, "int8"))
    answers = Answers(index, model, rerank=3)
    query = answers.text("a <b> circle")
    markup = answer_markup(
        index, PageQuery(query), answers.answer(query, 2), 1.0, kept=lambda *_: Box(0.125, 0, 0.75, 1)
    )
    assert "2 of 3 images in 1 ms · the first 3 re-ranked by their items" in markup
    for number, word in enumerate(["a", "&lt;unk&gt;", "circle"]):
        assert f'data-word="{number}" aria-pressed="false">{word}</button>' in markup
        assert markup.count(f'<img hidden data-map="{number}"') == 2
    assert markup.count('style="left: 12.50%; top: 12.50%; width: 75.00%; height: 75.00%"') == 6
    query = answers.result(0)
    assert "data-word" not in answer_markup(index, PageQuery(query), answers.answer(query, 2), 1.0, kept=all_of)


def test_maps_of_a_word_share_one_scale():
    maps = torch.zeros(1, 2, 2, 2)
    maps[0, 1, 0, 1] = 1.0
    (first,), (second,) = (
        [np.asarray(Image.open(BytesIO(base64.b64decode(one)))) for one in of_hit] for of_hit in painted_maps(maps, 2)
    )
    assert (first == second[1, 1]).all()
    assert second[0, 1, 1] < second[1, 1, 1]  # the shadow
    assert painted_maps(None, 3) == [(), (), ()]


def test_what_does_not_fit_is_said_above_the_nearest_images(index, model):
    query = PageQuery(Answers(index, model).text("a heart"))
    answer = Answer([Hit(0, "0.png", 0.1)], [], Judgement(fits=False, reason="the model does not know <x>"))
    markup = answer_markup(index, query, answer, 1.0, kept=all_of)
    assert "<b>Nothing fits: the model does not know &lt;x&gt;.</b> The nearest images: 1 of 6" in markup
    assert '<ol class="pictures misfit">' in markup
    for fits in (True, None):
        fitting = answer._replace(judgement=Judgement(fits=fits))
        markup = answer_markup(index, query, fitting, 1.0, kept=all_of)
        assert "Nothing fits" not in markup
        assert '<ol class="pictures">' in markup


@pytest.mark.parametrize(("items", "ranks"), [(1, [1]), (5, [1, 2, 3, 4, 5]), (9, [1, 3, 5, 7, 9]), (144, None)])
def test_a_chart_has_a_title_and_whole_ranks(items, ranks):
    curve = [0.5 - rank / items for rank in range(items)]
    markup = chart_markup(curve)
    assert f"<figcaption>How the query's {items} items were pooled" in markup
    written = [int(rank) for rank in re.findall(r'class="rank"[^>]*>(\d+)<', markup)]
    assert written == (ranks or list(range(1, 145, 18)))
    [points] = re.findall(r'<polyline points="([^"]*)"', markup)
    places = [tuple(map(float, point.split(","))) for point in points.split()]
    assert len(places) == items
    assert places[0] == (0, 0)  # the largest is at the top
    assert chart_markup([]) == ""


def test_a_timeline_has_a_bar_for_each_span():
    markup = timeline_markup(
        [Span("2023-01", "2023-02", 4), Span("2023-02", "2023-03", 0), Span("2023-03", "2023-04", 1)]
    )
    assert re.findall(r"height: ([\d.]+)%", markup) == ["100.0", "0.0", "25.0"]
    assert 'data-start="2023-03" data-end="2023-04"' in markup
    assert markup.count("disabled") == 1
    assert timeline_markup([]) == ""


def test_a_line_is_text_and_has_no_results():
    markup = line_markup("nothing to look for <here>")
    assert "nothing to look for &lt;here&gt;" in markup
    assert "<ol" not in markup


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "L", "I;16"])
def test_pictures_of_every_kind_are_drawn_small(mode, tmp_path):
    if mode == "I;16":
        Image.fromarray(np.full((900, 600), 30000, dtype=np.uint16)).save(tmp_path / "a.png")
    else:
        Image.new("RGB", (600, 900), "red").convert(mode).save(tmp_path / "a.png")
    assert open_picture(tmp_path / "a.png", side=320).shape == (3, 320, 213)
    drawn = draw_image(tmp_path / "a.png", "a")
    assert (drawn.name, drawn.reason) == ("a", "")
    with Image.open(BytesIO(base64.b64decode(drawn.data))) as small:
        assert (small.format, small.size) == ("JPEG", (213, 320))


def test_a_picture_that_cannot_be_read_has_its_reason(tmp_path):
    (tmp_path / "a.png").write_bytes(b"no picture")
    assert draw_image(tmp_path / "a.png", "a") == ("a", "", "cannot be decoded (not an image, 10 bytes)", (1, 1))
