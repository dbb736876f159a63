import warnings
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lightning_fabric.utilities.data import _set_sampler_epoch
from torch.utils.data import DataLoader

from tests.helpers.on_disk import picture
from tests.helpers.tiny import WIDTH, RandomRegions
from vse_gpo.batch import Batch, Tokens
from vse_gpo.data.captions import PrepareCaptions, WordNoise, Words
from vse_gpo.data.images import PrepareImages, to_pixels
from vse_gpo.data.orders import distinct_order
from vse_gpo.data.pairs import (
    Draw,
    EvaluationCaptions,
    EvaluationImages,
    EvaluationShare,
    TrainingBatches,
    TrainingPairs,
    largest_batch,
)
from vse_gpo.data.regions import PrepareRegions
from vse_gpo.data.split import ImageReadError, Split
from vse_gpo.errors import VSEError

COUNTS = [3, 1, 2, 4]  # captions of each image


class Letters:
    """A tokeniser of one-letter words."""

    mask_id = 27
    unknown_id = 28
    vocabulary_size = 29

    def words(self, caption: str) -> Words:
        return [[1 + ord(letter) - ord("a")] for letter in caption]

    def sequence(self, words: Words) -> list[int]:
        return [token for word in words for token in word]

    def spell(self, word: list[int]) -> str:
        return chr(ord("a") + word[0] - 1)

    def save(self, folder: Path, settings: dict[str, Any]) -> dict[str, Any]:
        return settings


class Pictures:
    def __len__(self) -> int:
        return len(COUNTS)

    def __getitem__(self, row: int) -> torch.Tensor:
        return to_pixels(picture(seed=row))

    def name(self, row: int) -> str:
        return str(row)


def split() -> Split:
    index = np.repeat(np.arange(len(COUNTS)), COUNTS)
    return Split(
        name="train",
        captions=["abcdefghijklmno"[: 6 + caption % 5] for caption in range(len(index))],
        caption_to_image=index,
        image_ids=[str(row) for row in range(len(COUNTS))],
        images=Pictures(),
    )


def training_pairs() -> TrainingPairs:
    captions = PrepareCaptions(tokenizer=Letters(), noise=WordNoise(0.5))
    return TrainingPairs(split(), PrepareImages(size=8), captions)


# which pairs, in which order

sizes = st.fixed_dictionaries(
    {
        "pairs": st.integers(1, 60),
        "share": st.integers(1, 5),  # of a batch, per process
        "processes": st.integers(1, 4),
        "seed": st.integers(0, 5),
        "drop_last": st.booleans(),
    }
)


def global_batches(
    *,
    pairs: int,
    batch_size: int,
    processes: int,
    seed: int,
    drop_last: bool,
    epoch: int = 0,
    first_batch: int = 0,
    images: npt.NDArray[np.int64] | None = None,
) -> list[list[Draw]]:
    """What all processes draw together, each batch in the order of a single process."""
    shares: list[list[list[Draw]]] = []
    for rank in range(processes):
        batches = TrainingBatches(
            pairs,
            batch_size=batch_size,
            seed=seed,
            drop_last=drop_last,
            rank=rank,
            processes=processes,
            order=None if images is None else partial(distinct_order, images, batch_size),
        )
        batches.set_epoch(epoch)
        batches.first_batch = first_batch
        shares.append(list(batches))
        assert len(shares[-1]) == max(0, len(batches) - first_batch)
    return [
        [draw for group in zip(*batch, strict=True) for draw in group]  # fails if the shares are unequal
        for batch in zip(*shares, strict=True)
    ]


def possible(pairs: int, batch_size: int, processes: int, drop_last: bool) -> bool:
    return pairs >= (batch_size if drop_last else processes)


@given(size=sizes, epoch=st.integers(0, 3))
def test_every_pair_once_an_epoch_over_all_processes(size: dict[str, int], epoch: int) -> None:
    share = size.pop("share")
    size["batch_size"] = share * size["processes"]
    if not possible(size["pairs"], size["batch_size"], size["processes"], bool(size["drop_last"])):
        return
    batches = global_batches(**size, epoch=epoch)
    drawn = [draw.pair for batch in batches for draw in batch]
    assert len(set(drawn)) == len(drawn)
    lost = size["pairs"] % size["batch_size"] if size["drop_last"] else size["pairs"] % size["processes"]
    assert len(drawn) == size["pairs"] - lost
    assert all(0 <= pair < size["pairs"] for pair in drawn)
    assert all(len(batch) == size["batch_size"] for batch in batches[:-1])


@given(size=sizes)
def test_any_number_of_processes_draws_the_same_batches(size: dict[str, int]) -> None:
    batch_size = size.pop("share") * size["processes"]
    if not possible(size["pairs"], batch_size, size["processes"], bool(size["drop_last"])):
        return
    shared = global_batches(**size, batch_size=batch_size)
    alone = global_batches(**(size | {"processes": 1}), batch_size=batch_size)
    for mine, theirs in zip(shared, alone, strict=False):
        assert mine == theirs[: len(mine)]
        assert len(theirs) - len(mine) < size["processes"]  # the rest of a last batch that cannot be shared evenly
    assert len(shared) == len(alone) or len(alone[-1]) < size["processes"]


@given(pairs=st.integers(10, 60), batch_size=st.integers(1, 10), first=st.integers(0, 8))
def test_a_resumed_epoch_skips_exactly_what_is_done(pairs: int, batch_size: int, first: int) -> None:
    settings = {"pairs": pairs, "batch_size": batch_size, "processes": 1, "seed": 1, "drop_last": False, "epoch": 2}
    assert global_batches(**settings, first_batch=first) == global_batches(**settings)[first:]


def test_epochs_and_seeds_differ() -> None:
    settings = {"pairs": 200, "batch_size": 200, "processes": 1, "drop_last": False}
    runs = {
        (seed, epoch): global_batches(**settings, seed=seed, epoch=epoch)[0] for seed in (0, 1) for epoch in (0, 1, 2)
    }
    orders = {tuple(draw.pair for draw in draws) for draws in runs.values()}
    assert len(orders) == 6
    assert len({draw.seed for draws in runs.values() for draw in draws}) == 6


def test_lightning_reaches_the_epoch() -> None:
    batches = TrainingBatches(10, batch_size=5, seed=0, drop_last=False)
    loader = DataLoader(training_pairs(), batch_sampler=batches, collate_fn=training_pairs().collate)
    _set_sampler_epoch(loader, 3)
    assert batches.epoch == 3


def test_a_new_epoch_starts_from_its_first_batch() -> None:
    batches = TrainingBatches(10, batch_size=2, seed=0, drop_last=False)
    batches.set_epoch(3)
    batches.first_batch = 2
    batches.set_epoch(3)
    assert len(list(batches)) == 3
    batches.set_epoch(4)
    assert len(list(batches)) == 5


@pytest.mark.parametrize(
    ("size", "message"),
    [
        ({"pairs": 10, "batch_size": 5, "processes": 2}, "batch size 5 is not a multiple of 2 processes"),
        ({"pairs": 10, "batch_size": 16, "processes": 2, "drop_last": True}, "10 training pairs do not fill one batch"),
        ({"pairs": 1, "batch_size": 4, "processes": 2}, "1 training pairs do not fill one batch"),
    ],
)
def test_batches_that_cannot_be(size: dict[str, int], message: str) -> None:
    with pytest.raises(VSEError, match=message):
        TrainingBatches(**({"seed": 0, "drop_last": False} | size))


@given(items=st.integers(0, 40), processes=st.integers(1, 5))
def test_evaluation_counts_every_item_once(items: int, processes: int) -> None:
    shares = [EvaluationShare(items, rank=rank, processes=processes) for rank in range(processes)]
    assert sorted(row for share in shares for row in share) == list(range(items))
    assert all(len(share) == len(list(share)) for share in shares)


# batches of distinct images

captions_of_images = st.lists(st.integers(1, 6), min_size=1, max_size=20)


def distinct_batches(
    counts: list[int], batch_size: int, *, processes: int = 1, epoch: int = 0, first_batch: int = 0
) -> tuple[list[list[int]], list[list[int]]]:
    """The pairs and the images of all batches."""
    images = np.repeat(np.arange(len(counts)), counts)
    settings = {"pairs": len(images), "batch_size": batch_size, "processes": processes, "seed": 2, "drop_last": False}
    drawn = global_batches(**settings, epoch=epoch, first_batch=first_batch, images=images)
    pairs = [[draw.pair for draw in batch] for batch in drawn]
    return pairs, [images[batch].tolist() for batch in pairs]


@given(counts=captions_of_images, batch_size=st.integers(1, 12), epoch=st.integers(0, 2))
def test_no_batch_holds_an_image_twice_and_every_pair_is_drawn(counts, batch_size, epoch) -> None:
    pairs, images = distinct_batches(counts, batch_size, epoch=epoch)
    assert sorted(pair for batch in pairs for pair in batch) == list(range(sum(counts)))
    assert all(len(batch) == batch_size for batch in pairs[:-1])
    for image, captions in enumerate(counts):
        times = [batch.count(image) for batch in images]
        if captions < len(images) or (captions == len(images) and len(images[-1]) == batch_size):
            assert max(times) == 1
        elif len(images[-1]) == batch_size:  # more captions than batches
            assert max(times) - min(times) <= 1


@given(counts=captions_of_images, share=st.integers(1, 4), processes=st.integers(1, 3), first=st.integers(0, 4))
def test_distinct_batches_are_shared_and_resumed_as_all_are(counts, share, processes, first) -> None:
    batch_size = share * processes
    if sum(counts) < processes:
        return
    alone, _ = distinct_batches(counts, batch_size)
    shared, _ = distinct_batches(counts, batch_size, processes=processes)
    assert all(mine == theirs[: len(mine)] for mine, theirs in zip(shared, alone, strict=False))
    assert distinct_batches(counts, batch_size, first_batch=first)[0] == alone[first:]


def test_distinct_batches_are_others_in_every_epoch() -> None:
    (first, _), (second, _) = (distinct_batches([5] * 20, 10, epoch=epoch) for epoch in (0, 1))
    together = [{frozenset(batch) for batch in batches} for batches in (first, second)]
    assert not together[0] & together[1]


# what a pair is


def run(workers: int, processes: int = 1, epoch: int = 0) -> Iterator[Batch]:
    """The batches of an epoch, in pieces of one process each."""
    for rank in range(processes):
        pairs = training_pairs()
        batches = TrainingBatches(len(pairs), batch_size=4, seed=5, drop_last=False, rank=rank, processes=processes)
        batches.set_epoch(epoch)
        yield from DataLoader(pairs, batch_sampler=batches, collate_fn=pairs.collate, num_workers=workers)


def samples(batches: Iterator[Batch]) -> dict[int, tuple[int, list[int], list[int]]]:
    """Row of the image, tokens and pixels of each pair."""
    return {
        int(caption): (int(row), tokens[:length].tolist(), image.flatten().tolist())
        for batch in batches
        for caption, row, tokens, length, image in zip(
            batch.caption_index, batch.image_index, batch.tokens.ids, batch.tokens.lengths, batch.images, strict=True
        )
    }


def test_a_sample_does_not_depend_on_workers_or_processes() -> None:
    alone = samples(run(workers=0))
    assert len(alone) == sum(COUNTS)
    assert samples(run(workers=2)) == alone
    assert samples(run(workers=0, processes=2)) == alone
    assert samples(run(workers=0, epoch=1)) != alone


def test_a_pair_is_a_caption_with_its_image() -> None:
    pairs = training_pairs()
    plain = PrepareImages(size=8, crop=[1.0, 1.0], flip=0.0)
    still = TrainingPairs(split(), plain, PrepareCaptions(tokenizer=Letters()))
    for caption in range(len(pairs)):
        image, tokens, row, index, dense = still[Draw(caption, (0, 0))]
        assert dense is None
        assert index == caption
        assert row == split().caption_to_image[caption]
        assert torch.equal(image, plain.encode(split().images[row]))
        assert tokens.tolist() == list(range(1, 7 + caption % 5))


def test_augmentation_draws_anew_for_each_caption_of_an_image() -> None:
    pairs = training_pairs()
    crops = [pairs[Draw(caption, (0, 0))].image for caption in range(COUNTS[0])]
    assert not any(torch.equal(a, b) for a, b in pairwise(crops))


def test_dense_captions_are_drawn_by_the_seed_and_leave_image_and_caption_as_they_are() -> None:
    plain = training_pairs()
    dense = [["abcabc" * (row + 1), "xyz" * (row + 1)] for row in range(len(COUNTS))]
    pairs = TrainingPairs(replace(plain.split, dense=dense), plain.images, PrepareCaptions(tokenizer=Letters()))
    draws = [Draw(caption, (0, epoch)) for caption in range(len(pairs)) for epoch in range(4)]
    found, again = ([pairs[draw] for draw in draws] for _ in range(2))
    assert all(torch.equal(one.dense, other.dense) for one, other in zip(found, again, strict=True))
    texts = {caption: [*map(pairs.captions.encode, dense[row])] for caption, row in enumerate(split().caption_to_image)}
    drawn = [[torch.equal(one.dense, text) for text in texts[one.caption_index]].index(True) for one in found]
    assert set(drawn) == {0, 1}
    noisy = TrainingPairs(pairs.split, plain.images, plain.captions)
    for draw in draws:
        assert torch.equal(noisy[draw].image, plain[draw].image)
        assert torch.equal(noisy[draw].tokens, plain[draw].tokens)
    assert any(not torch.equal(noisy[draw].dense, one.dense) for draw, one in zip(draws, found, strict=True))
    batch = pairs.collate(found[:3])
    assert batch.dense is not None
    assert batch.dense.lengths.tolist() == [len(one.dense) for one in found[:3]]
    assert plain.collate([plain[draws[0]]]).dense is None


def test_the_largest_batch_holds_the_longest_dense_captions_too() -> None:
    long = replace(split(), dense=[["a" * (7 - row), "b"] for row in range(len(COUNTS))])
    pairs = len(long.captions)
    batch = largest_batch(long, PrepareImages(size=8), PrepareCaptions(tokenizer=Letters()), pairs)
    assert batch.dense is not None
    assert batch.dense.lengths[:3].tolist() == [7, 6, 5]
    assert len(batch.dense.lengths) == pairs


def test_the_largest_batch_holds_the_longest_captions_and_changes_nothing() -> None:
    """The 8 × 2 captions with most bytes are tokenised; a caption of many bytes may have few tokens."""
    captions = [*("ab" * n for n in range(1, 30)), "é" * 29]
    split = Split(
        name="train",
        captions=captions,
        caption_to_image=np.arange(30),
        image_ids=[str(row) for row in range(30)],
        images=RandomRegions(30),
    )
    prepare = Careful()
    batch = largest_batch(split, PrepareRegions(), prepare, 2)
    assert batch.tokens.lengths.tolist() == [58, 56]
    assert batch.caption_index.tolist() == batch.image_index.tolist() == [28, 27]
    assert torch.equal(batch.images.values[0], batch.images.values[1])
    assert (batch.images.values.shape, prepare.seen) == ((2, 3, WIDTH), 0)


class Careful(PrepareCaptions):
    """Counts what it has seen, and warns of each."""

    def __init__(self) -> None:
        super().__init__(tokenizer=Letters())
        self.seen = 0

    def encode(self, caption: str, random: np.random.Generator | None = None) -> torch.Tensor:
        self.seen += 1
        warnings.warn("seen", stacklevel=2)
        return torch.ones(len(caption) if caption.isascii() else 1, dtype=torch.long)


def test_captions_are_tokenised_once_for_all_evaluations(monkeypatch) -> None:
    asked: list[str] = []
    letters = Letters()
    monkeypatch.setattr(letters, "words", lambda caption: asked.append(caption) or Letters().words(caption))
    texts = EvaluationCaptions(split(), PrepareCaptions(tokenizer=letters, noise=WordNoise(1.0)))
    first, second = ([texts[row] for row in range(len(texts))] for _ in range(2))
    assert asked == split().captions
    for (tokens, row), (again, same_row) in zip(first, second, strict=True):
        assert (row, tokens.dtype) == (same_row, torch.int64)
        assert torch.equal(tokens, again)


def test_evaluation_takes_everything_as_it_is() -> None:
    prepare, captions = PrepareImages(size=8), PrepareCaptions(tokenizer=Letters(), noise=WordNoise(1.0))
    images = EvaluationImages(split(), prepare)
    texts = EvaluationCaptions(split(), captions)
    assert (len(images), len(texts)) == (len(COUNTS), sum(COUNTS))
    pixels, rows = images.collate([images[3], images[1]])
    assert rows.tolist() == [3, 1]
    assert torch.equal(pixels[1], prepare.encode(split().images[1]))
    tokens, rows = texts.collate([texts[4], texts[0]])
    assert isinstance(tokens, Tokens)
    assert rows.tolist() == [4, 0]
    assert tokens.lengths.tolist() == [10, 6]
    assert tokens.ids[1].tolist() == [1, 2, 3, 4, 5, 6, 0, 0, 0, 0]


# images that cannot be read


class Damaged(Pictures):
    """The images of some rows cannot be read."""

    def __init__(self, *rows: int) -> None:
        self.rows = rows

    def __getitem__(self, row: int) -> torch.Tensor:
        if row in self.rows:
            raise ImageReadError(f"image {row}: cannot be decoded")
        return super().__getitem__(row)


def damaged_pairs(*rows: int) -> TrainingPairs:
    captions = PrepareCaptions(tokenizer=Letters(), noise=WordNoise(0.5))
    return TrainingPairs(replace(split(), images=Damaged(*rows)), PrepareImages(size=8), captions)


def test_another_pair_takes_the_place_of_an_unreadable_one_the_same_whenever_it_is_drawn():
    pairs, whole = damaged_pairs(0, 1), training_pairs()
    with pytest.warns(UserWarning, match="^train: image 0: cannot be decoded; another pair was taken, as for 1 so far"):
        taken = pairs[Draw(1, (0, 0))]
    assert taken.image_index in (2, 3)
    own = whole[Draw(taken.caption_index, (0, 0))]
    assert [torch.equal(taken.image, own.image), torch.equal(taken.tokens, own.tokens)] == [True, True]
    with pytest.warns(UserWarning, match="as for 2 so far"):
        assert pairs[Draw(1, (0, 0))].caption_index == taken.caption_index
    with pytest.warns(UserWarning, match="so far"):
        others = {pairs[Draw(1, (0, epoch))].caption_index for epoch in range(1, 9)}
    assert len(others) > 1  # another in another epoch
    assert torch.equal(pairs[Draw(9, (0, 0))].image, whole[Draw(9, (0, 0))].image)


def test_unreadable_images_are_named_now_and_then():
    pairs = damaged_pairs(0)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        for epoch in range(40):
            pairs[Draw(0, (0, epoch))]
    counts = [int(str(one.message).split("as for ")[1].split()[0]) for one in told]
    assert counts == [1, 2, 3, 4, 5, 6, 7, 8, 16, 32]


def test_a_data_set_without_a_readable_image_is_refused():
    pairs = damaged_pairs(*range(len(COUNTS)))
    with (
        pytest.warns(UserWarning, match="cannot be decoded"),
        pytest.raises(VSEError, match=r"none of 100 images around pair 2 can be read: image"),
    ):
        pairs[Draw(2, (0, 0))]
