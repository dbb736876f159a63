"""Loaders for training and evaluation; each process loads its own share."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, Dataset

from vse_gpo.batch import Batch, Indexed
from vse_gpo.data.dense import read_dense
from vse_gpo.data.loading import loader
from vse_gpo.data.orders import Order, distinct_order
from vse_gpo.data.pairs import (
    EvaluationCaptions,
    EvaluationImages,
    EvaluationShare,
    TrainingBatches,
    TrainingPairs,
    largest_batch,
)
from vse_gpo.data.preparation import CaptionPreparation, ImagePreparation
from vse_gpo.data.split import Split
from vse_gpo.errors import VSEError


@runtime_checkable
class Source(Protocol):
    """A data set: gives its splits by name."""

    def split(self, name: str) -> Split: ...


class ReadOnce:
    """A data set whose splits are read only once.

    Args:
        source: the data set.
    """

    def __init__(self, source: Source) -> None:
        self.source = source
        self._splits: dict[str, Split] = {}

    def split(self, name: str) -> Split:
        """Read one split, or give it again."""
        if name not in self._splits:
            self._splits[name] = self.source.split(name)
        return self._splits[name]


class PairsDataModule(pl.LightningDataModule):
    """Pairs for training; every image and every caption once for validation and test.

    Args:
        source: the data set.
        images, captions: prepare the inputs of the two backbones.
        batch_size: pairs per optimizer step, over all processes.
        evaluation_batch_size: images or captions per batch, per process.
        workers: number of loader processes per training process; ``auto`` for what the CPUs allow.
        seed: seed of order and augmentation.
        drop_last: leave out an epoch's last, smaller batch.
        train_split, dev_split, test_split: names of the splits.
        dev_captions: number of captions that dev is cut to, with their images; published models were selected on 5,000.
        train_captions: the same for train; None uses all of it.
        distinct_images: never put two captions of one image in a batch; published runs do not ensure this.
        dense: file of the training images' dense captions, see ``read_dense``; None has none.
    """

    def __init__(
        self,
        *,
        source: Source,
        images: ImagePreparation,
        captions: CaptionPreparation,
        batch_size: int,
        evaluation_batch_size: int,
        workers: int | str,
        seed: int,
        drop_last: bool,
        train_split: str = "train",
        dev_split: str = "dev",
        test_split: str = "test",
        dev_captions: int = 5000,
        train_captions: int | None = None,
        distinct_images: bool = False,
        dense: str | None = None,
    ) -> None:
        super().__init__()
        self.source = source
        self.images = images
        self.captions = captions
        self.batch_size = batch_size
        self.evaluation_batch_size = evaluation_batch_size
        self.workers = workers
        self.seed = seed
        self.drop_last = drop_last
        self.split_names = {"train": train_split, "dev": dev_split, "test": test_split}
        self.cuts = {"train": train_captions, "dev": dev_captions, "test": None}
        self.distinct_images = distinct_images
        self.dense = None if dense is None else Path(dense).expanduser()
        self._splits: dict[str, Split] = {}

    def split(self, part: str) -> Split:
        """The train, dev or test split, read once and cut as configured."""
        if part not in self._splits:
            split, cut = self.source.split(self.split_names[part]), self.cuts[part]
            if part == "train" and self.dense is not None:
                split = replace(split, dense=read_dense(self.dense, len(split.images)))
            self._splits[part] = split if cut is None else split.head(cut)
        return self._splits[part]

    def setup(self, stage: str) -> None:
        """Read what the stage needs, so that bad data stop a run before its first step."""
        for part in {"fit": ("train", "dev"), "validate": ("dev",), "test": ("test",), "predict": ()}[stage]:
            self.split(part)

    def train_dataloader(self) -> DataLoader[Batch]:
        pairs = TrainingPairs(self.split("train"), self.images, self.captions)
        rank, processes = self._share()
        batches = TrainingBatches(
            len(pairs),
            batch_size=self.batch_size,
            seed=self.seed,
            drop_last=self.drop_last,
            rank=rank,
            processes=processes,
            order=self._order(pairs.split),
        )
        if self.trainer is not None:  # a resumed run continues within the epoch of its checkpoint, or with the next
            epochs: Any = self.trainer.fit_loop.epoch_progress.current  # of types that Lightning does not declare
            done: Any = self.trainer.fit_loop.epoch_loop.batch_progress
            # now, not when Lightning names the epoch: loader processes begin as soon as they are there
            ended = done.is_last_batch and epochs.started > epochs.processed
            batches.set_epoch(epochs.processed + ended)
            batches.first_batch = 0 if done.is_last_batch else done.current.processed
        return self._loader(pairs, pairs.collate, batch_sampler=batches)

    def _order(self, split: Split) -> Order | None:
        if self.distinct_images and split.turns is not None:
            raise VSEError("data.distinct_images=true deals the pairs of all shards; set dataset.at_once=null with it")
        if self.distinct_images:
            return partial(distinct_order, split.caption_to_image, self.batch_size)
        return None if split.turns is None else split.turns.order

    def largest_batch(self) -> Batch:
        """This process's share of the batch that takes most memory in training; see ``pairs.largest_batch``."""
        split, (_, processes) = self.split("train"), self._share()
        pairs = min(self.batch_size, len(split.captions)) // processes
        return largest_batch(split, self.images, self.captions, pairs)

    def val_dataloader(self) -> list[DataLoader[Indexed]]:
        return self.evaluation_dataloaders("dev")

    def test_dataloader(self) -> list[DataLoader[Indexed]]:
        return self.evaluation_dataloaders("test")

    def evaluation_dataloaders(self, part: str) -> list[DataLoader[Indexed]]:
        """Two loaders of a split: its images, then its captions."""
        split = self.split(part)
        images = EvaluationImages(split, self.images)
        captions = EvaluationCaptions(split, self.captions)
        return [self._evaluation_loader(images, images.collate), self._evaluation_loader(captions, captions.collate)]

    def _evaluation_loader(self, items: Dataset[Any], collate: Any) -> DataLoader[Indexed]:
        rank, processes = self._share()
        share = EvaluationShare(len(items), rank=rank, processes=processes)  # type: ignore[arg-type]
        return self._loader(items, collate, sampler=share, batch_size=self.evaluation_batch_size)

    def _loader(self, items: Dataset[Any], collate: Any, **order: Any) -> DataLoader[Any]:
        trainer = self.trainer
        device = torch.device("cpu") if trainer is None else trainer.strategy.root_device
        processes = 1 if trainer is None else trainer.num_devices
        return loader(items, collate, workers=self.workers, device=device, processes=processes, for_a_run=True, **order)

    def _share(self) -> tuple[int, int]:
        return (0, 1) if self.trainer is None else (self.trainer.global_rank, self.trainer.world_size)
