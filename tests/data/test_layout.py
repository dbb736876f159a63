"""Captions of other sources as the files that the data sets read."""

import json

import pytest

from vse_gpo.data.files import read_listing, read_mapping
from vse_gpo.data.layout import caption_texts
from vse_gpo.data.sources.read import read_captions
from vse_gpo.data.sources.run import prepare as prepare_captions
from vse_gpo.errors import VSEError
from vse_gpo.storage.writing import write_together


def convert(source, out, seed=0):
    texts, counts = caption_texts(read_captions(source).described, out, seed)
    write_together(texts)
    return counts


def write_csv(path, rows, header="image,caption,split"):
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return path


def test_a_table_becomes_splits_whose_captions_lie_image_by_image(tmp_path):
    rows = [
        "b.jpg,one,train",
        'a.jpg,"two, and\nmore",train',
        "b.jpg,drei über,train",
        "c.jpg,four,val",
        "d.jpg,x,test",
    ]
    assert convert(write_csv(tmp_path / "c.csv", rows), tmp_path / "out", 0)["train"] == (2, 3)
    listing = read_listing(tmp_path / "out", "train")
    pairs = {
        (listing.image_ids[row], text) for row, text in zip(listing.caption_to_image, listing.captions, strict=True)
    }
    assert listing.image_ids == ["b.jpg", "a.jpg"]  # COCO's five folds count on the order
    assert pairs == {("b.jpg", "one"), ("b.jpg", "drei über"), ("a.jpg", "two, and more")}
    assert read_listing(tmp_path / "out", "dev").captions == ["four"]
    assert read_mapping(tmp_path / "out" / "id_mapping.json", "images")["d.jpg"] == "d.jpg"


def test_images_without_a_split_are_dealt_out_whole_and_alike_by_the_same_seed(tmp_path):
    rows = [f"{image}.jpg,caption {number}" for image in range(20) for number in range(1 + image % 3)]
    source = write_csv(tmp_path / "c.csv", rows, "image,caption")
    counts = convert(source, tmp_path / "a", 0)
    assert {split: images for split, (images, _) in counts.items()} == {"train": 16, "dev": 2, "test": 2}
    assert sum(captions for _, captions in counts.values()) == len(rows)
    convert(source, tmp_path / "b", 0)
    convert(source, tmp_path / "c", 1)
    a, b, c = (read_listing(tmp_path / name, "train").image_ids for name in "abc")
    assert a == b
    assert a != c


def test_karpathys_json_keeps_cocos_ids_and_adds_restval_to_train(tmp_path):
    splits = {1: "train", 2: "restval", 3: "val", 4: "test"}
    images = [
        {"cocoid": 10 * n, "imgid": n, "filepath": "val2014", "filename": f"{n}.jpg", "split": split}
        | {"sentences": [{"raw": f"caption {n}"}]}
        for n, split in splits.items()
    ]
    (tmp_path / "dataset_coco.json").write_text(json.dumps({"images": images}))
    convert(tmp_path / "dataset_coco.json", tmp_path / "out", 0)
    assert set(read_listing(tmp_path / "out", "train").image_ids) == {"10", "20"}
    assert read_mapping(tmp_path / "out" / "id_mapping.json", "images")["40"] == "val2014/4.jpg"


@pytest.mark.parametrize(
    ("rows", "header", "message"),
    [
        (["a,b"], "picture,text", "no column for image, found 'picture', 'text'; set image_column="),
        (["a.jpg,x,holdout"], "image,caption,split", "split 'holdout', expected one of"),
        (["a.jpg,x,train", "a.jpg,y,test"], "image,caption,split", "image a.jpg lies in several splits"),
        (["a.jpg,x,train"], "image,caption,split", "no image in split dev"),
        (["a.jpg"], "image,caption", r"no caption left of its rows, first: line 2: 1 of 2 columns, left out"),
    ],
)
def test_other_tables_are_refused(rows, header, message, tmp_path):
    with pytest.raises(VSEError, match=message):
        convert(write_csv(tmp_path / "c.csv", rows, header), tmp_path / "out", 0)
    assert not (tmp_path / "out").exists()


def test_notes_about_a_strange_file_steer_no_terminal(tmp_path, capsys):
    images = [
        {"imgid": f"{split}\x1b[2J", "filename": f"{split}.jpg", "split": split}
        | {"sentences": [{"raw": "a dog"}, {"raw": None}]}
        for split in ("train", "val", "test")
    ]
    (tmp_path / "c.json").write_text(json.dumps({"images": images}))
    columns = dict.fromkeys(("image_column", "caption_column", "split_column", "layout"))
    prepare_captions(source=str(tmp_path / "c.json"), out=str(tmp_path / "out"), seed=0, **columns)
    shown = capsys.readouterr().out
    assert "\n  image train\\x1b[2J: blank caption, left out\n" in shown
    assert "\x1b" not in shown


def test_captions_beside_features_stay_as_they_are(tmp_path):
    rows = [f"{image}.jpg,caption" for image in range(20)]
    source = write_csv(tmp_path / "c.csv", rows, "image,caption")
    convert(source, tmp_path, 0)
    (tmp_path / "precomp" / "dev_ims.npy").write_bytes(b"features")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.*")}
    convert(source, tmp_path, 0)
    with pytest.raises(VSEError, match="belongs to the features beside it, and would change; name a new folder"):
        convert(source, tmp_path, 1)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.*")} == before
