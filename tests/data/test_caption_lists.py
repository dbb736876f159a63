"""Caption lists as people have them: told by their content, and no caption changed or lost without a note."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vse_gpo.data.caption_lists import read_captions
from vse_gpo.errors import VSEError


def written(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.write_bytes(text.encode(encoding))
    return path


def captions_of(path: Path) -> list[tuple[str, str]]:
    return [(one.image_id, one.caption) for one in read_captions(path).described]


def karpathy(raw: str = '"a dog"', imgid: str = "0") -> str:
    """The JSON of one image with one caption."""
    image = f'{{"imgid": {imgid}, "filename": "a.jpg", "split": null, "sentences": [{{"raw": {raw}}}]}}'
    return f'{{"images": [{image}]}}'


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


@pytest.mark.parametrize("form", ["karpathy", "coco"])
def test_json_is_told_by_its_content(form, tmp_path):
    content = {
        "karpathy": {
            "images": [
                {"imgid": 7, "filename": "a.jpg", "split": "val", "sentences": [{"raw": "a cat"}, {"raw": "a dog"}]},
                {"imgid": 8, "cocoid": 80, "filepath": "x", "filename": "b.jpg", "split": "val", "sentences": []},
            ]
        },
        "coco": {
            "images": [{"id": 7, "file_name": "a.jpg"}],
            "annotations": [{"image_id": 7, "caption": "a cat"}, {"image_id": 7, "caption": "a dog\n"}],
        },
    }[form]
    found = read_captions(written(tmp_path / "x.json", json.dumps(content), "utf-8-sig"))
    assert [(one.image_id, one.file, one.caption) for one in found.described] == [
        ("7", "a.jpg", "a cat"),
        ("7", "a.jpg", "a dog"),
    ]


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
        ("picture,title\na,b\n", r"no columns for image and caption in its first line 'picture,title'"),
        ("image,caption\n", "no caption left of its rows$"),
        ("image,caption\na.jpg,\n", "no caption left of its rows, first: line 2: blank caption, left out"),
        ("a.jpg#0\ta cat\nb.jpg a dog\n", "line 2 is not IMAGE#NUMBER, a tab and a caption"),
        ('{"images": [{"imgid": 1}]}', "expected Karpathy's JSON"),
        ('{"images": 3, "annotations": []}', "expected Karpathy's JSON"),
        ("{", "JSONDecodeError"),
        ("", "no columns for image and caption"),
        (
            '{"images": [{"imgid": 0, "filename": "a.jpg", "split": "train", "sentences": [{"raw": "x"}]},'
            ' {"imgid": 0, "filename": "b.jpg", "split": "train", "sentences": [{"raw": "y"}]}]}',
            r"image id 0 stands for a\.jpg and b\.jpg, expected one file for each id",
        ),
        (
            '{"images": [{"id": 0, "file_name": "a.jpg"}, {"id": 0, "file_name": "b.jpg"}], "annotations": []}',
            r"image id 0 stands for a\.jpg and b\.jpg, expected one file for each id",
        ),
        ("image,caption,Caption\na.jpg,x,y\n", "two columns are called caption, expected one; rename the other"),
        (karpathy(raw="5"), r"image 0: found 5 \(int\), expected a text"),
        (karpathy(raw='"half \\ud800"'), r"image 0: 'half .* is not Unicode, expected a text"),
        (karpathy(imgid='"0\\n1"'), r"image id '0\\n1', expected one line without blanks around it"),
        (karpathy(imgid='" 0"'), r"image id ' 0', expected one line without blanks around it"),
        ("[" * 100_000, "RecursionError"),
    ],
)
def test_what_would_change_captions_is_refused(text, message, tmp_path):
    with pytest.raises(VSEError, match=message):
        read_captions(written(tmp_path / "c", text))


def test_an_image_without_captions_is_noted(tmp_path):
    coco = {"images": [{"id": n, "file_name": f"{n}.jpg"} for n in (1, 2)]}
    coco["annotations"] = [{"image_id": 1, "caption": "a dog"}]
    assert read_captions(written(tmp_path / "c", json.dumps(coco))).notes == ["image 2: no caption, left out"]
    found = json.loads(karpathy())
    found["images"].append({"imgid": 2, "filename": "b.jpg", "split": "train", "sentences": []})
    assert read_captions(written(tmp_path / "k", json.dumps(found))).notes == ["image 2: no caption, left out"]


def test_a_file_that_is_not_there_or_not_utf8_is_named(tmp_path):
    with pytest.raises(VSEError, match=r"none\.csv: cannot be read \(no such file"):
        read_captions(tmp_path / "none.csv")
    (tmp_path / "latin.csv").write_bytes("image,caption\na.jpg,caf\xe9\n".encode("latin-1"))
    with pytest.raises(VSEError, match="line 2 is not UTF-8"):
        read_captions(tmp_path / "latin.csv")


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
