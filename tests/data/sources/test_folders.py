"""Folders with captions: what of them is read."""

from pathlib import Path

import pytest

from vse_gpo.data.sources.folders import caption_files, files_under, read_texts, split_in_name, texts_beside_images


def fill(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("a dog\n", encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    ("names", "read"),
    [
        (["a.jpg", "a.txt", "metadata.csv"], ["metadata.csv"]),
        (
            ["data/train-0.parquet", "data/train-1.parquet", "README.md"],
            ["data/train-0.parquet", "data/train-1.parquet"],
        ),
        (["0.tar", "1.tar", "sizes.json"], ["0.tar", "1.tar"]),
        (["a.jpg", "a.txt"], []),
        (["images/a.jpg", "captions.txt"], ["captions.txt"]),
        (["coco_karpathy_val.json", "coco_karpathy_test.json"], ["coco_karpathy_test.json", "coco_karpathy_val.json"]),
    ],
)
def test_the_files_that_hold_the_captions(names, read, tmp_path):
    assert [path.relative_to(tmp_path).as_posix() for path in caption_files(fill(tmp_path, *names))] == read


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("coco_karpathy_val.json", "val"),
        ("train-00000-of-00002.parquet", "train"),
        ("Validation/metadata.csv", "val"),
        ("trained/latest.csv", ""),
        ("train/test.csv", "test"),
    ],
)
def test_a_name_may_tell_the_split(name, split):
    assert split_in_name(Path("train") / name, Path("train")) == split


def test_a_text_beside_each_image(tmp_path):
    fill(tmp_path, "test/b.jpg", "test/b.txt", "a.jpg", "c.txt", "d.JPG", "d.txt", "x.pdf")
    assert [(image.name, text.name) for image, text in texts_beside_images(files_under(tmp_path))] == [
        ("d.JPG", "d.txt"),
        ("b.jpg", "b.txt"),
    ]
    notes = []
    found = list(read_texts(tmp_path, notes).found)
    assert [(place, one.file, one.split, one.caption) for place, one in found] == [
        ("d.JPG", "d.JPG", "", "a dog"),
        ("test/b.jpg", "test/b.jpg", "test", "a dog"),
    ]
    assert notes == ["a.jpg: no text file of this name, left out", "c.txt: no image of this name, left out"]
