"""The columns of image, caption and split: guessed, or as the user names them."""

import pytest

from vse_gpo.data.sources.columns import (
    Columns,
    Wanted,
    captions_in,
    described_records,
    find_columns,
    folded,
    guess_columns,
)
from vse_gpo.errors import VSEError


@pytest.mark.parametrize(
    ("names", "wanted", "found"),
    [
        (["File_Name", "text"], {}, ("File_Name", "text", None)),
        (["id", "Set", "raw", "filename"], {}, ("filename", "raw", "Set")),
        (["text", "caption", "image"], {}, ("image", "caption", None)),
        (["text", "caption", "image"], {"caption": "TEXT"}, ("image", "text", None)),
        (
            ["photo", "title", "fold"],
            {"image": "photo", "caption": "title", "split": "fold"},
            ("photo", "title", "fold"),
        ),
        (["image", "caption", "Caption"], {"caption": "Caption"}, ("image", "Caption", None)),
    ],
)
def test_columns_are_found_whatever_their_case(names, wanted, found):
    assert find_columns(names, Wanted(**wanted), "c") == Columns(*found)


@pytest.mark.parametrize(
    ("names", "wanted", "message"),
    [
        (["photo", "title"], {}, "c: no column for image and caption, found 'photo', 'title'; set image_column= and "),
        (["image", "title"], {}, "c: no column for caption, found 'image', 'title'; set caption_column=$"),
        (["image", "text"], {"caption": "txt"}, "c: no column caption_column=txt, found 'image', 'text'"),
        (["image", "text"], {"split": "set"}, "c: no column split_column=set, found"),
        (["image", "caption", "Caption"], {}, "c: two columns are called caption, expected one; rename the other"),
    ],
)
def test_columns_that_are_not_there_are_told_with_those_that_are(names, wanted, message):
    with pytest.raises(VSEError, match=message):
        find_columns(names, Wanted(**wanted), "c")


def test_a_guess_may_be_in_part():
    assert guess_columns([' "Image" ', "title"], Wanted()) == {"image": ' "Image" '}
    assert folded(' "Image" ') == "image"


def test_a_value_may_hold_several_captions():
    assert captions_in("a dog") == captions_in(["a dog"]) == captions_in('["a dog"]') == ["a dog"]
    assert captions_in('["a" and "b"') == ['["a" and "b"']
    assert captions_in(None) == captions_in([]) == []


def test_records_without_captions_are_noted():
    notes = []
    records = [("1", {"i": " a.jpg ", "c": ["x", None]}), ("2", {"i": "b.jpg"})]
    found = list(described_records(records, Columns("i", "c", None), notes))
    assert [(place, one.image_id, one.file, one.caption) for place, one in found] == [
        ("1", "a.jpg", "a.jpg", "x"),
        ("1", "a.jpg", "a.jpg", ""),
    ]
    assert notes == ["2: no caption, left out"]


def test_columns_say_what_they_were_read_from():
    assert str(Columns("f", "t", None)) == "image from 'f', caption from 't', no split"
