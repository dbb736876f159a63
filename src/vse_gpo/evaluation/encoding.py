"""A whole split as a model sees it: encoded batch by batch, on any number of processes, in the order of the split."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import pytorch_lightning as pl
import torch
from jaxtyping import Float
from torch import Tensor

from vse_gpo.batch import Embedded, Indexed, encode_batches
from vse_gpo.data.datamodule import PairsDataModule, Source
from vse_gpo.data.split import Split
from vse_gpo.evaluation.item_sets import ComparedSets, interaction_in_order, rows_in_order, sets_in_order
from vse_gpo.model import VSE
from vse_gpo.retrieval.similarity import Similarities, matrix_similarities, similarities

IMAGES, CAPTIONS = 0, 1  # order of the evaluation loaders


class EncodedSplit(NamedTuple):
    """The images and captions of a split as a model sees them, in the order of the split."""

    images: Float[Tensor, "images dim"]  # unit embeddings
    captions: Float[Tensor, "captions dim"]
    interaction: Float[Tensor, "images captions"] | None = None  # similarity, for models with an interaction
    item_sets: ComparedSets | None = None  # in its place, where only few pairs are to be compared

    def to(self, device: torch.device) -> "EncodedSplit":
        """The same on a device, but for the item sets, which stay where the interaction is."""
        interaction = None if self.interaction is None else self.interaction.to(device)
        return self._replace(images=self.images.to(device), captions=self.captions.to(device), interaction=interaction)

    def similarities(self) -> Similarities:
        """What the model ranks by: its interaction if that was computed, otherwise its embeddings."""
        if self.interaction is None:
            return self.embedding_similarities()
        return matrix_similarities(self.interaction)

    def embedding_similarities(self) -> Similarities:
        """The similarities of the embeddings, whether or not there is an interaction."""
        return similarities(self.images, self.captions)


class Collector:
    """Encodes batches of images and captions, and returns what they give in the order of the split.

    Args:
        model: the two encoders.
        precision: see ``vse_gpo.batch.in_precision``.
        keeps_items: whether the item sets of a model with an interaction are kept, in place of the similarity of all.
    """

    def __init__(self, model: VSE, precision: int | str = 32, *, keeps_items: bool = False) -> None:
        self.model = model
        self.precision = precision
        self.keeps_items = keeps_items
        self._collected: tuple[list[Embedded], list[Embedded]] = ([], [])

    def add(self, batch: Indexed, modality: int) -> None:
        """Encode a batch of images or captions and keep it."""
        encoder = (self.model.image_encoder, self.model.text_encoder)[modality]
        encode = partial(encoder.output, with_items=self.model.interaction is not None)
        self._collected[modality].extend(encode_batches(encode, [batch], batch.rows.device, self.precision))

    def clear(self) -> None:
        """Drop what was encoded so far."""
        self._collected = ([], [])

    def gather(self, caption_to_image: Any, *, processes: int) -> EncodedSplit:
        """What all processes have encoded, in the order of the split; empties the collector.

        Raises:
            VSEError: if a row of the split was not encoded.
        """
        collected, counts = self._collected, (int(caption_to_image.max()) + 1, len(caption_to_image))
        self.clear()
        images, captions = (
            rows_in_order([(part.embeddings.embeddings, part.rows) for part in parts], count, what, processes)
            for parts, count, what in zip(collected, counts, ("images", "captions"), strict=True)
        )
        interaction = self.model.interaction
        if interaction is None:
            return EncodedSplit(images, captions)
        of_images, of_captions = ([(part.embeddings.items, part.rows) for part in parts] for parts in collected)
        if not self.keeps_items:
            similarity = interaction_in_order(interaction, of_images, of_captions, counts, processes)
            return EncodedSplit(images, captions, similarity)
        sets = ComparedSets(
            interaction,
            sets_in_order(of_images, counts[0], processes),
            sets_in_order(of_captions, counts[1], processes),
        )
        return EncodedSplit(images, captions, item_sets=sets)


class EmbeddingModule(pl.LightningModule):
    """Encodes every image and every caption of a split once, on any number of processes.

    Args:
        model: the two encoders.
        precision, keeps_items: see ``Collector``.
    """

    def __init__(self, model: VSE, precision: int | str = 32, *, keeps_items: bool = False) -> None:
        super().__init__()
        self.model = model
        self.collector = Collector(model, precision, keeps_items=keeps_items)
        self.encoded: EncodedSplit | None = None  # the last evaluated split

    def test_step(self, batch: Indexed, batch_idx: int, dataloader_idx: int) -> None:
        self.collector.add(batch, dataloader_idx)

    def on_test_epoch_end(self) -> None:
        index = self.split("test").caption_to_image
        self.encoded = self.collector.gather(index, processes=self.trainer.world_size)

    @property
    def data(self) -> PairsDataModule:
        """The trainer's data module."""
        data: PairsDataModule = self.trainer.datamodule  # type: ignore[attr-defined]
        return data

    def split(self, part: str) -> Split:
        """The train, dev or test split."""
        return self.data.split(part)


# a model → its embeddings of a data set


def open_data(
    model: VSE,
    dataset: Mapping[str, Any],
    make_source: Callable[[Mapping[str, Any]], Source],
    *,
    split: str,
    batch_size: int,
    workers: int | str,
) -> PairsDataModule:
    """A data set in the form that a model takes: pixels or features, and tokens.

    Args:
        model: the model to evaluate.
        dataset: settings as in ``configs/dataset``, in plain containers.
        make_source: ``source`` of these settings → the data set.
        split: split to use as the test split.
        batch_size: images or captions per batch and process.
        workers: loader processes.
    """
    source = dict(dataset["source"])
    if "open_images" in source:  # the built-in data set has no files
        source["open_images"] = model.prepare_images.opener(dataset["image_folder"])
    return PairsDataModule(
        source=make_source(source),
        images=model.prepare_images,
        captions=model.prepare_captions,
        batch_size=1,
        evaluation_batch_size=batch_size,
        workers=workers,
        seed=0,
        drop_last=False,
        test_split=split,
    )


def encode_split(model: VSE, data: PairsDataModule, part: str = "test") -> EncodedSplit:
    """The images and captions of a split as a model sees them, in this process, on the model's device."""
    collector = Collector(model)
    device = next(model.parameters()).device
    for modality, loader in enumerate(data.evaluation_dataloaders(part)):
        for batch in loader:
            collector.add(batch.to(device), modality)
    return collector.gather(data.split(part).caption_to_image, processes=1)
