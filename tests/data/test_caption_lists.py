"""Captions of any source: on one line each, and none changed or left out without a note."""

import pytest

from vse_gpo.data.caption_lists import Described, checked_captions, two_files
from vse_gpo.errors import VSEError


def test_captions_are_kept_on_one_line_and_blank_ones_noted():
    found = [
        ("1", Described("", "a", "a.jpg", " a  dog\nruns ")),
        ("2", Described("", "a", "a.jpg", " ")),
        ("3", Described("", "", "", "x")),
    ]
    notes = []
    assert checked_captions(found, "c", notes) == [Described("", "a", "a.jpg", "a dog runs")]
    assert notes == ["1: the caption's lines are joined", "2: blank caption, left out", "3: blank image, left out"]


@pytest.mark.parametrize(
    ("found", "message"),
    [
        ([], "c: no caption left of its rows$"),
        ([Described("", "a", "a.jpg", "")], "c: no caption left of its rows, first: here: blank caption, left out"),
        (
            [Described("", "a", "a.jpg", "x"), Described("", "a", "b.jpg", "x")],
            str(two_files("c", "a", "a.jpg", "b.jpg")),
        ),
        ([Described("", "a ", "a.jpg", "x")], "here: image id 'a ', expected one line"),
    ],
)
def test_what_is_no_caption_list_is_refused(found, message):
    with pytest.raises(VSEError, match=message):
        checked_captions([("here", one) for one in found], "c", [])
