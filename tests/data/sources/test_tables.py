"""Tables and token files: read whole, or refused where a caption would change."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vse_gpo.data.sources.columns import Wanted
from vse_gpo.data.sources.read import read_captions
from vse_gpo.data.sources.tables import TOKEN, read_table, read_token
from vse_gpo.errors import VSEError


def written(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.write_bytes(text.encode(encoding))
    return path


def captions_of(path: Path) -> list[tuple[str, str]]:
    return [(one.image_id, one.caption) for one in read_captions(path).described]


EXPECTED = [("a.jpg", "a cat, asleep"), ("a.jpg", "a dog"), ("b.jpg", "two birds")]


@pytest.mark.parametrize(
    "text",
    [
        'image,caption\na.jpg,"a cat, asleep"\na.jpg,a dog\nb.jpg,two birds\n',
        'Filename;Comment\na.jpg;"a cat, asleep"\na.jpg;a dog\nb.jpg;two birds\n',
        "image_name| comment_number| comment\na.jpg| 0| a cat, asleep\na.jpg| 1| a dog\nb.jpg| 0| two birds\n",
        "caption\timage\na cat, asleep\ta.jpg\na dog\ta.jpg\ntwo birds\tb.jpg\n",
        "a.jpg#0\ta cat, asleep\na.jpg#1\ta dog\nb.jpg#0\ttwo birds\n",
    ],
    ids=["commas", "semicolons", "bars", "tabs", "token"],
)
@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_every_form_gives_the_same_captions(text, line_end, encoding, tmp_path):
    path = written(tmp_path / "captions", text.replace("\n", line_end), encoding)
    assert captions_of(path) == EXPECTED
    assert read_captions(path).notes == []


def test_what_is_left_out_or_joined_is_noted(tmp_path):
    text = 'image,caption\na.jpg,\n,a cat\nb.jpg,"two\nlines"\nc.jpg\n\nd.jpg,a dog\n'
    found = read_captions(written(tmp_path / "c.csv", text))
    assert [one.caption for one in found.described] == ["two lines", "a dog"]
    assert found.notes == [
        "line 2: blank caption, left out",
        "line 3: blank image, left out",
        "line 5: the caption's lines are joined",
        "line 6: 1 of 2 columns, left out",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image,caption\na.jpg,a cat, a dog\n", r"line 2 has 3 columns, expected 2; put captions with ',' in quotes"),
        ('image,caption\na.jpg,"a cat\nb.jpg,"a dog"\n', r"line 3: .*; is a quote open\?"),
        ('image,caption\na.jpg,"a cat\nb.jpg,a dog\n', r"unexpected end of data; is a quote open\?"),
        (
            "picture,title\na,b\n",
            r"no column for image and caption, found 'picture', 'title'; set image_column= and caption_column=",
        ),
        ("image,caption\n", "no caption left of its rows$"),
        ("image,caption\na.jpg,\n", "no caption left of its rows, first: line 2: blank caption, left out"),
        ("a.jpg#0\ta cat\nb.jpg a dog\n", "line 2 is not IMAGE#NUMBER, a tab and a caption"),
        ("", "no column for image and caption, found ''"),
        ("image,caption,Caption\na.jpg,x,y\n", "two columns are called caption, expected one; rename the other"),
    ],
)
def test_what_would_change_captions_is_refused(text, message, tmp_path):
    with pytest.raises(VSEError, match=message):
        read_captions(written(tmp_path / "c", text))


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), min_size=1, max_size=5))
def test_any_quoted_caption_comes_back_with_its_words(tmp_path_factory, captions):
    path = tmp_path_factory.mktemp("any") / "c.csv"
    rows = "".join(
        f'{number}.jpg,"{caption.replace(chr(34), 2 * chr(34))}"\n' for number, caption in enumerate(captions)
    )
    kept = [" ".join(caption.split()) for caption in captions]
    written(path, f"image,caption\n{rows}")
    if any(kept):
        assert [one.caption for one in read_captions(path).described] == [caption for caption in kept if caption]


def test_a_part_says_how_it_is_read():
    assert read_table("A;File\nx;y", Path("c"), Wanted(caption="a"), []).told == (
        "a table with semicolons between columns: image from 'File', caption from 'A', no split"
    )
    assert TOKEN.match("a.jpg#0\tx")
    assert read_token("a.jpg#0\tx", Path("c")).told == "IMAGE#NUMBER, a tab and a caption on each line"
