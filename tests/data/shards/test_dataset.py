import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.helpers.on_disk import picture
from tests.helpers.tiny import TinySource
from tests.helpers.tiny_shards import BROKEN, encoded, tiny_shards, write_tar, write_tiny_shards
from vse_gpo.data.decoding import image_from, read_image
from vse_gpo.data.shards import ShardsDataset
from vse_gpo.data.split import ImageReadError
from vse_gpo.errors import VSEError


def test_a_split_holds_the_samples_of_its_shards_in_order(tmp_path: Path):
    write_tiny_shards(tmp_path)
    split, expected = tiny_shards(tmp_path).split("train"), TinySource().split("train")
    assert list(split.captions) == list(expected.captions)
    assert np.array_equal(split.caption_to_image, expected.caption_to_image)
    assert list(split.image_ids[:5]) == ["train-0/000", "train-0/001", "train-0/002", "train-0/003", "train-1/004"]
    assert split.turns is None
    copy = pickle.loads(pickle.dumps(split))  # noqa: S301, as a loader process that is not forked gets it
    for row in {*range(11)} - {BROKEN}:
        pixels = image_from(encoded(row), "x")
        assert torch.equal(split.images[row], pixels)
        assert torch.equal(copy.images[row], pixels)
    head = split.head(6)
    assert [list(head.captions), len(head.images)] == [list(expected.captions)[:6], 3]


def test_an_image_that_cannot_be_decoded_is_told_by_name(tmp_path: Path):
    write_tiny_shards(tmp_path)
    split = tiny_shards(tmp_path).split("train")
    with pytest.raises(ImageReadError, match=r"^train-1/004: cannot be decoded \(.*40 bytes\); fetch it again$"):
        split.images[BROKEN]


def test_samples_that_cannot_be_used_are_counted_and_named(tmp_path: Path):
    write_tiny_shards(tmp_path)
    with pytest.warns(UserWarning, match=r"^train: 1 of 11 samples left out: train-1/004: cannot be decoded \(.*\); f"):
        split = tiny_shards(tmp_path, decoded=["train"]).split("train")
    assert len(split.images) == 10
    files = {f"{number}.jpg": encoded(0) for number in range(5)} | {"0.txt": b"zero"}
    write_tar(tmp_path / "many.tar", sorted(files.items()))
    data = ShardsDataset(sources={"train": str(tmp_path / "many.tar")}, decoded=[])
    with pytest.warns(UserWarning, match=r"^train: 4 of 5 .*many/1: no caption.*many/3: no caption.*; and 1 more$"):
        data.split("train")


def test_shards_that_take_turns_give_their_bounds(tmp_path: Path):
    write_tiny_shards(tmp_path)
    split = tiny_shards(tmp_path, at_once=1).split("train")
    assert split.turns is not None
    assert split.turns.bounds.tolist() == [0, 7, 15, 21]
    assert [split.images[row].shape for row in (0, 10)] == [(3, 16, 16)] * 2  # each read ahead


def test_images_are_those_of_files(tmp_path: Path):
    picture().save(tmp_path / "a.jpg", exif=(exif := picture().getexif()) or exif)
    data = (tmp_path / "a.jpg").read_bytes()
    write_tar(tmp_path / "a.tar", {"a.jpg": data, "a.txt": b"a"})
    [pixels] = [ShardsDataset(sources={"x": str(tmp_path / "a.tar")}, decoded=[]).split("x").images[0]]
    assert torch.equal(pixels, read_image(tmp_path / "a.jpg"))


@pytest.mark.parametrize(
    ("sources", "message"),
    [
        ({"train": None}, r"dataset.train_shards must be set; add dataset.train_shards='train-\{000..099\}.tar'"),
        ({"train": "{tmp}/none.tar"}, r"none.tar: no such shard, expected a tar file$"),
        ({"train": "{tmp}/empty.tar"}, r"^train: no sample in .*empty.tar and 0 more shards can be used"),
        ({"train": "{tmp}/cut.tar"}, r"cut.tar: truncated after 600 bytes"),
    ],
)
def test_what_cannot_be_read_is_one_line(tmp_path: Path, sources: dict[str, str | None], message: str):
    write_tar(tmp_path / "empty.tar", {"README.md": b"nothing"})
    (tmp_path / "cut.tar").write_bytes(write_tar(tmp_path / "a.tar", {"a.jpg": bytes(999)}).read_bytes()[:600])
    there = {name: value and value.replace("{tmp}", str(tmp_path)) for name, value in sources.items()}
    with pytest.raises(VSEError, match=message) as error:
        ShardsDataset(sources=there, decoded=[]).split("train")
    assert "\n" not in str(error.value)
