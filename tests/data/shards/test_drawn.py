from pathlib import Path

import torch

from vse_gpo.data.shapes import ShapesDataset
from vse_gpo.data.shards.drawn import drawn_shards


def test_the_embedded_data_set_is_drawn_once_and_read_from_shards(tmp_path: Path):
    shapes = ShapesDataset(train=5, dev=2, test=2, size=16, captions=2, seed=0)
    settings = {"folder": str(tmp_path), "shapes": shapes, "splits": ["train", "dev"], "per_shard": 2, "at_once": 1}
    split, drawn = drawn_shards(**settings).split("train"), shapes.split("train")
    assert list(split.captions) == list(drawn.captions)
    assert all(torch.equal(split.images[row], drawn.images[row]) for row in range(5))
    written = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.tar")}
    assert [path.parent.name for path in sorted(written)] == ["dev_2_16_2_0_2"] + 3 * ["train_5_16_2_0_2"]
    drawn_shards(**settings)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.tar")} == written
