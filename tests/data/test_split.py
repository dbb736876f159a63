from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers.on_disk import CAPTIONS, FOLDER, write_features, write_images, write_texts
from vse_gpo.data.images import ImageFiles
from vse_gpo.data.regions import RegionFiles
from vse_gpo.data.split import DiskDataset, SomeImages, Split
from vse_gpo.errors import VSEError


class Rows:
    """A source whose images hold their row."""

    def __init__(self, rows: int) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return self.rows

    def __getitem__(self, row: int) -> torch.Tensor:
        return torch.tensor(row)

    def name(self, row: int) -> str:
        return f"image {row}"


def ragged(counts: list[int]) -> Split:
    index = np.repeat(np.arange(len(counts)), counts)
    return Split(
        name="dev",
        captions=[f"caption of {row}" for row in index],
        caption_to_image=index,
        image_ids=[str(row) for row in range(len(counts))],
        images=Rows(len(counts)),
    )


@given(counts=st.lists(st.integers(1, 6), min_size=1, max_size=12), kept=st.integers(1, 80))
def test_head_keeps_the_first_captions_with_their_images(counts: list[int], kept: int) -> None:
    whole = ragged(counts)
    head = whole.head(kept)
    assert list(head.captions) == list(whole.captions)[:kept]
    images = {int(row) for row in whole.caption_to_image[:kept]}
    assert len(head.images) == len(head.image_ids) == len(images)
    for caption, row in zip(head.captions, head.caption_to_image, strict=True):
        assert caption == f"caption of {int(head.images[int(row)])}"
        assert head.images.name(int(row)) == f"image {row}"


def test_published_dev_cut() -> None:
    assert len(ragged([5] * 1014).head(5000).images) == 1000
    whole = ragged([5] * 1000)
    assert whole.head(5000) is whole


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_ids": ["0"]}, "1 image ids for 2 images"),
        ({"dense": [["long"]]}, "dense captions of 1 images, expected of all 2"),
        ({"captions": ["a"]}, "1 captions but 3 image indices"),
        ({"caption_to_image": np.array([0, 0, 0])}, "captions describe 1 of 2 images"),
        ({"caption_to_image": np.array([0, 2, 1])}, "captions describe 3 of 2 images"),
        ({"images": Rows(0), "image_ids": []}, "captions describe 2 of 0 images"),
    ],
)
def test_parts_at_odds(change: dict[str, object], message: str) -> None:
    split = ragged([2, 1])
    with pytest.raises(VSEError, match=message):
        Split(**(split.__dict__ | change))


def test_disk_dataset_opens_regions_and_images_alike(tmp_path: Path) -> None:
    write_texts(tmp_path)
    write_images(tmp_path, list(CAPTIONS))
    features = np.random.default_rng(0).random((3, 4, 8), dtype=np.float32)
    write_features(tmp_path, features)
    regions = DiskDataset(root=str(tmp_path), open_images=partial(RegionFiles, width=8)).split("train")
    pixels = DiskDataset(root=str(tmp_path), open_images=partial(ImageFiles, folder=FOLDER)).split("train")
    np.testing.assert_array_equal(regions.images[2], features[2])
    assert pixels.images[2].shape == (3, 24, 32)
    assert (regions.images.name(1), pixels.images.name(1)) == ("3", "val/3.jpg")
    assert regions.captions == pixels.captions
    assert regions.image_ids == ["7", "3", "12"]


def test_root_may_begin_with_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    write_texts(tmp_path / "coco")
    write_images(tmp_path / "coco", list(CAPTIONS))
    assert len(DiskDataset(root="~/coco", open_images=partial(ImageFiles, folder=FOLDER)).split("train").images) == 3


def test_some_images_are_those_that_were_asked_for() -> None:
    some = SomeImages(Rows(5), [1, 4])
    assert len(some) == 2
    assert torch.equal(some[1], Rows(5)[4])
    assert some.name(0) == Rows(5).name(1)


def test_a_backbone_without_files_is_told() -> None:
    with pytest.raises(VSEError, match=r"reads no files of a data set; set experiment= or backbone="):
        DiskDataset(root="mine", open_images=None)
