"""What the parts of the page do, without a browser."""

import re

import pytest
from PIL import Image

pytest.importorskip("gradio", reason="the page needs Gradio")

from gradio import EventData

from tests.helpers.photo_folder import paint
from tests.helpers.photo_index import indexed
from vse_gpo.search.answers import Answers
from vse_gpo.search.handlers import Filters, Handlers, PageState


def shown(state: PageState) -> list[str]:
    """Names of the images on the page."""
    return re.findall(r'aria-label="View ([^"]*)"', state.results)


def event(**told: object) -> EventData:
    """What the browser tells of a click."""
    return EventData(None, told)


@pytest.fixture
def handlers(dated_index, model) -> Handlers:
    return Handlers(Answers(dated_index, model, ["a red circle"]), top=3, most=4)


@pytest.mark.parametrize(
    ("filters", "line"),
    [
        ([], "nothing to look for"),
        (["yesterday"], "after=yesterday: not a date"),
        (["", "", "", "../secrets"], "expected a folder under the image folder"),
        (["", "", "", "", "here"], "near=here, expected latitude,longitude"),
        (["", "", "", "", "", "size > 3"], "size"),
    ],
)
def test_an_error_is_one_line_on_the_page(handlers, filters, line):
    state = handlers.by_text(" ", *filters)
    assert line in state.results
    assert shown(state) == []
    assert (state.asked, state.more.visible, state.curve) == (None, False, "")


def test_filters_leave_images_out(handlers):
    assert len(shown(handlers.by_text("a heart"))) == 3
    for filters, files in (
        (["2022-12", "2023-01"], {"a.jpg", "trip/b.jpg"}),
        (["", "", "iphone"], {"trip/b.jpg", "trip/lake/c.jpg"}),
        (["2023", None, "iphone", "trip", " ", "width > height"], {"trip/lake/c.jpg"}),
        (["", "", "", "", "48.5,16"], {"trip/b.jpg"}),
    ):
        assert set(shown(handlers.by_text("a heart", *filters))) == files
        assert set(shown(handlers.by_example(["a heart"], *filters))) == files
        assert set(shown(handlers.by_text("", *filters))) == files
    assert Filters().condition() is None


def test_without_a_text_the_newest_images_are_first(handlers):
    state = handlers.by_text("", "", "", "", "", "", "file is not null")
    assert shown(state) == ["trip/lake/c.jpg", "trip/b.jpg", "a.jpg"]
    assert "the newest first" in state.results
    assert 'class="bar"' not in state.results
    assert shown(handlers.more("", state.asked)) == ["trip/lake/c.jpg", "trip/b.jpg", "a.jpg", "d.jpg"]


def test_conditions_that_no_image_meets_fit_nothing(handlers):
    for text in ("", "a heart"):
        state = handlers.by_text(text, "2030")
        assert "Nothing fits: no image meets the conditions." in state.results
        assert shown(state) == []


def test_other_conditions_are_asked_of_the_same_image(handlers, tmp_path):
    state = handlers.by_picture(str(tmp_path / "pictures" / "d.jpg"))
    assert "like d.jpg" in state.results
    again = handlers.again("a text", state.asked, "", "", "canon")
    assert shown(again) == ["a.jpg"]
    assert "like d.jpg" in again.results
    assert shown(handlers.again("a heart", None, "", "", "canon")) == ["a.jpg"]


def test_more_images_follow_the_first_ones(handlers):
    first = handlers.by_text("a heart")
    assert first.more.visible is True
    more = handlers.more("a heart", first.asked)
    assert shown(more)[:3] == shown(first)
    assert len(shown(more)) == 4
    assert more.more.visible is False


def test_a_found_image_finds_others_and_a_span_fills_the_dates(handlers):
    state = handlers.by_result(event(row=0), "", "", "iphone")
    assert "like " in state.results
    assert set(shown(state)) <= {"trip/b.jpg", "trip/lake/c.jpg"}
    assert handlers.in_span(event(start="2022-12", end="2023-01")) == ("2022-12", "2023-01")


def test_copies_are_shown_in_groups_and_can_be_viewed(tmp_path, model):
    for file, seed in (("a.png", 0), ("b <i>.png", 0), ("d.png", 1), ("e.png", 1)):
        paint(tmp_path / "pictures" / file, seed)
    with Image.open(tmp_path / "pictures" / "a.png") as same:
        same.save(tmp_path / "pictures" / "c.png", compress_level=0)
    answers = Answers(indexed(tmp_path, model), model)
    state = Handlers(answers, top=3, most=6).copies("a heart")
    assert "6 images in 3 groups of copies; none is deleted</span>" in state.results
    assert (state.text, state.asked, state.more.visible) == ("a heart", None, False)
    exact, near = state.results.split("<h3>Near copies</h3>")
    assert re.findall(r'aria-label="View ([^"]*)"', exact) == ["a.png", "b &lt;i&gt;.png", "d.png", "e.png"]
    assert sorted(re.findall(r'aria-label="View ([^"]*)"', near)) == ["a.png", "c.png"]
    rows = [answers.index.names.to_pylist()[int(row)] for row in re.findall(r'data-view="(\d+)"', exact)]
    assert rows == ["a.png", "b <i>.png", "d.png", "e.png"]
    few = Handlers(answers, top=3, most=3).copies("").results
    assert "groups shown: the first 1; vse-duplicates lists all" in few
    assert few.count("data-view") == 2


def test_different_images_have_no_copies(handlers):
    assert "no two images are copies" in handlers.copies("").results


def test_an_image_is_viewed_with_what_is_known_of_it(dated_index, model, tmp_path):
    own, others = (Handlers(Answers(dated_index, model), top=3, most=4, shows_paths=paths) for paths in (True, False))
    row = dated_index.names.to_pylist().index("trip/b.jpg")
    for known in ("trip/b.jpg", "2022-12-31 23:59", "iPhone 12", "40 × 30 pixels", "data:image/jpeg;base64,"):
        assert known in others.view(row)
    path = str(tmp_path / "pictures" / "trip" / "b.jpg")
    assert path in own.view(row)
    assert str(tmp_path) not in others.view(row)


@pytest.mark.parametrize("row", [-1, 4, "0", None, [0], 1.5, True])
def test_a_row_that_is_not_there_is_neither_viewed_nor_searched(handlers, row):
    assert "no image" in handlers.view(row)
    assert "no image" in handlers.by_result(event(row=row)).results
