"""Loaders: every pair once an epoch, every item of an evaluation once, from splits that are read once and cut."""

import pytest

from tests.helpers.tiny import TinySource, tiny_data
from vse_gpo.data.datamodule import ReadOnce
from vse_gpo.data.split import Split

PAIRS = len(TinySource().split("train").captions)


class Counting(TinySource):
    """Remembers what it was asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []

    def split(self, name: str) -> Split:
        self.asked.append(name)
        return super().split(name)


@pytest.mark.parametrize(
    ("stage", "read"), [("fit", ["train", "dev"]), ("validate", ["dev"]), ("test", ["test"]), ("predict", [])]
)
def test_a_stage_reads_what_it_needs_and_reads_it_once(stage, read):
    source = Counting()
    data = tiny_data(source=source)
    for _ in range(2):
        data.setup(stage)
    assert source.asked == read


def test_splits_have_the_names_and_the_cuts_asked_for():
    source = Counting()
    data = tiny_data(source=source, train_split="restval", test_split="val", dev_captions=4, train_captions=3)
    assert [len(data.split(part).captions) for part in ("train", "dev", "test")] == [3, 4, PAIRS]
    assert source.asked == ["restval", "dev", "val"]


def test_only_training_pairs_have_dense_captions_and_they_are_cut_with_their_images(tmp_path):
    (tmp_path / "dense.txt").write_text("\n".join("dense" for _ in range(11)), encoding="utf-8")
    data = tiny_data(dense=str(tmp_path / "dense.txt"), train_captions=3)
    assert data.split("train").dense == [["dense"]] * len(data.split("train").images)
    assert data.split("dev").dense == ()
    assert {batch.dense.ids.shape[1] for batch in data.train_dataloader()} <= {1, 2, 3, 4, 5}


@pytest.mark.parametrize(("drop_last", "sizes"), [(False, [4, 4, 4, 4, 4, 1]), (True, [4, 4, 4, 4, 4])])
def test_an_epoch_holds_every_pair_once(drop_last, sizes):
    batches = list(tiny_data(drop_last=drop_last).train_dataloader())
    assert [len(batch.caption_index) for batch in batches] == sizes
    captions = [row for batch in batches for row in batch.caption_index.tolist()]
    assert len(set(captions)) == len(captions) == sum(sizes)


@pytest.mark.parametrize(("batch_size", "pairs"), [(4, 4), (99, 21)])
def test_the_largest_batch_is_as_large_as_the_data_allow(batch_size, pairs):
    batch = tiny_data(batch_size=batch_size).largest_batch()
    assert len(batch.image_index) == pairs
    assert batch.tokens.lengths.tolist() == sorted(batch.tokens.lengths.tolist(), reverse=True)
    assert batch.tokens.lengths[0] == 3


def test_no_batch_holds_an_image_twice_if_asked():
    for batch in tiny_data(distinct_images=True).train_dataloader():
        images = batch.image_index.tolist()
        assert len(set(images)) == len(images)


@pytest.mark.parametrize("loaders", ["val_dataloader", "test_dataloader"])
def test_an_evaluation_has_every_image_and_then_every_caption_in_order(loaders):
    images, captions = getattr(tiny_data(evaluation_batch_size=3), loaders)()
    for loader, items in ((images, 11), (captions, PAIRS)):
        rows = [batch.rows.tolist() for batch in loader]
        assert [row for part in rows for row in part] == list(range(items))
        assert {len(part) for part in rows[:-1]} == {3}


def test_loader_processes_give_the_same_batches():
    alone, shared = (list(tiny_data(workers=workers).train_dataloader()) for workers in (0, 1))
    for one, other in zip(alone, shared, strict=True):
        assert one.caption_index.tolist() == other.caption_index.tolist()
        assert one.images.values.equal(other.images.values)


def test_a_source_is_read_once():
    counted = Counting()
    source = ReadOnce(counted)
    assert source.split("train") is source.split("train")
    assert source.split("dev") is not source.split("train")
    assert counted.asked == ["train", "dev"]
