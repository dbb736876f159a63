"""Lists in JSON: told by their content, and refused where they are not whole."""

import json
from pathlib import Path

import pytest

from vse_gpo.data.sources.columns import Wanted
from vse_gpo.data.sources.json_lists import read_json_list
from vse_gpo.data.sources.read import read_captions
from vse_gpo.errors import VSEError


def written(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.write_bytes(text.encode(encoding))
    return path


def karpathy(raw: str = '"a dog"', imgid: str = "0") -> str:
    """The JSON of one image with one caption."""
    image = f'{{"imgid": {imgid}, "filename": "a.jpg", "split": null, "sentences": [{{"raw": {raw}}}]}}'
    return f'{{"images": [{image}]}}'


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


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"images": [{"imgid": 1}]}', "expected Karpathy's JSON"),
        ('{"images": 3, "annotations": []}', "expected Karpathy's JSON"),
        ("{", "JSONDecodeError"),
        (
            '{"images": [{"imgid": 0, "filename": "a.jpg", "split": "train", "sentences": [{"raw": "x"}]},'
            ' {"imgid": 0, "filename": "b.jpg", "split": "train", "sentences": [{"raw": "y"}]}]}',
            r"image id 0 stands for a\.jpg and b\.jpg, expected one file for each id",
        ),
        (
            '{"images": [{"id": 0, "file_name": "a.jpg"}, {"id": 0, "file_name": "b.jpg"}], "annotations": []}',
            r"image id 0 stands for a\.jpg and b\.jpg, expected one file for each id",
        ),
        (karpathy(raw="5"), r"image 0: found 5 \(int\), expected a text"),
        (karpathy(raw='"half \\ud800"'), r"image 0: 'half .* is not Unicode, expected a text"),
        (karpathy(imgid='"0\\n1"'), r"image id '0\\n1', expected one line without blanks around it"),
        (karpathy(imgid='" 0"'), r"image id ' 0', expected one line without blanks around it"),
        ("[" * 100_000, "RecursionError"),
        ('{"image": "a.jpg", "caption": "x"}\n{"image": "b.jpg"\n', r"c: line 2: JSONDecodeError"),
        ('[{"image": "a.jpg", "caption": "x"}, 3]', "c: entry 2 is no record of names and values"),
        ('[{"image": 3, "caption": "x"}]', r"entry 1: found 3 \(int\), expected a text"),
        ('{"image": "a.jpg"}', "no column for caption, found 'image'; set caption_column="),
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


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('{"image": "a", "caption": "x"}', "JSON, one record: image"),
        ('{"image": "a", "caption": "x"}\n\n{"image": "a", "caption": "x"}', "JSON, one record a line: image"),
        ('[{"image": "a", "caption": "x"}]', "a list of records in JSON: image"),
        ('{"images": []}', "Karpathy's JSON"),
        ('{"images": [], "annotations": []}', "COCO's annotations"),
    ],
)
def test_a_part_says_how_it_is_read(text, told):
    assert read_json_list(text, Path("c"), Wanted(), []).told.startswith(told)


@pytest.mark.parametrize(("dataset", "layout"), [("coco", "coco"), ("flickr30k", "f30k"), (None, "own"), ([1], "own")])
def test_karpathys_json_names_its_data_set(dataset, layout):
    assert read_json_list(json.dumps({"images": [], "dataset": dataset}), Path("c"), Wanted(), []).layout == layout
