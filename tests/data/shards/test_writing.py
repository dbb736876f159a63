from pathlib import Path

import numpy as np
import pytest
import torch

from vse_gpo.data.shapes import ShapesDataset
from vse_gpo.data.shards import ShardsDataset
from vse_gpo.data.shards.writing import StoredSample, samples_of, write_shards
from vse_gpo.errors import VSEError

SHAPES = ShapesDataset(train=7, dev=2, test=2, size=24, captions=2, seed=0)


def test_what_is_written_is_read_again(tmp_path: Path):
    split = SHAPES.split("train")
    written = write_shards(samples_of(split), tmp_path / "a", "train", per_shard=3)
    assert [path.name for path in written] == ["train-000000.tar", "train-000001.tar", "train-000002.tar"]
    again = write_shards(samples_of(split), tmp_path / "b", "train", per_shard=3)
    assert [path.read_bytes() for path in written] == [path.read_bytes() for path in again]
    read = ShardsDataset(sources={"train": str(tmp_path / "a" / "train-*.tar")}, decoded=["train"]).split("train")
    assert list(read.captions) == list(split.captions)
    assert list(read.image_ids) == list(split.image_ids)
    assert np.array_equal(read.caption_to_image, split.caption_to_image)
    assert all(torch.equal(read.images[row], split.images[row]) for row in range(7))


@pytest.mark.parametrize(
    ("sample", "message"),
    [
        (StoredSample("7", b"x", "bmp", ["a"]), r"image 7: .bmp with 1 captions, expected an image of jpg, jpeg, png,"),
        (StoredSample("7", b"x", "png", []), "image 7: .png with 0 captions"),
    ],
)
def test_a_sample_that_no_reader_takes_is_refused(tmp_path: Path, sample: StoredSample, message: str):
    with pytest.raises(VSEError, match=message):
        write_shards([sample], tmp_path, "train")
    assert list(tmp_path.iterdir()) == []


def test_shards_of_that_name_are_kept(tmp_path: Path):
    (tmp_path / "train-7.tar").touch()
    with pytest.raises(VSEError, match="holds shards called train-… already; name a new folder"):
        write_shards([], tmp_path, "train")
