"""The parts of a query, as they are typed."""

import pytest

from vse_gpo.errors import VSEError
from vse_gpo.search.parts import Part, check_unicode, parts_of, parts_of_line, title_of


def test_parts_are_read_with_signs_and_weights():
    parts = parts_of(
        "2 * a dog; a cat", "a;b.jpg", plus=" on a beach ; 0.5*at night;", minus="people", minus_image="2 * x y.png"
    )
    assert parts == [
        Part("2 * a dog; a cat"),
        Part("a;b.jpg", is_image=True),
        Part("on a beach"),
        Part("at night", 0.5),
        Part("people", -1.0),
        Part("x y.png", -2.0, is_image=True),
    ]
    assert title_of(parts[1:]) == "like a;b.jpg + on a beach + 0.5 * at night - people - 2 * like x y.png"
    assert title_of(parts[-1:]) == "- 2 * like x y.png"
    assert parts_of("  ", plus=";") == parts_of() == []


def test_a_line_is_a_text_or_an_image():
    assert parts_of_line(" a = b; 2 * c\n") == [Part("a = b; 2 * c")]
    assert parts_of_line("image=a b.jpg\n") == [Part("a b.jpg", is_image=True)]
    assert parts_of_line(" \n") == []


@pytest.mark.parametrize("text", ["", "ein grüner Kreis 🟢 赤い", "\0"])
def test_unicode_is_a_text(text):
    check_unicode(text)


def test_what_is_no_unicode_is_told():
    with pytest.raises(VSEError, match="the query is not UTF-8; type it in a terminal that is"):
        check_unicode("a \ud800 dog")
