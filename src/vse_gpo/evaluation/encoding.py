"""A whole split as a model sees it: encoded batch by batch, on any number of processes, in the order of the split."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import pytorch_lightning as pl
import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor
from torchmetrics.utilities.distributed import gather_all_tensors

from vse_gpo.batch import Embedded, Features, Indexed, encode_batches, join_features
from vse_gpo.data.datamodule import PairsDataModule, Source
from vse_gpo.data.split import Split
from vse_gpo.errors import VSEError
from vse_gpo.interaction import Interaction
from vse_gpo.model import VSE
from vse_gpo.retrieval.similarity import Similarities, matrix_similarities, similarities

IMAGES, CAPTIONS = 0, 1  # order of the evaluation loaders


class EncodedSplit(NamedTuple):
    """The images and captions of a split as a model sees them, in the order of the split."""

    images: Float[Tensor, "images dim"]  # unit embeddings
    captions: Float[Tensor, "captions dim"]
    interaction: Float[Tensor, "images captions"] | None = None  # similarity, for models with an interaction

    def to(self, device: torch.device) -> "EncodedSplit":
        """The same on a device."""
        interaction = None if self.interaction is None else self.interaction.to(device)
        return EncodedSplit(self.images.to(device), self.captions.to(device), interaction)

    def similarities(self) -> Similarities:
        """What the model ranks by: its interaction if it has one, otherwise its embeddings."""
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
    """

    def __init__(self, model: VSE, precision: int | str = 32) -> None:
        self.model = model
        self.precision = precision
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
        images, captions = self._collected
        self.clear()
        count, interaction = int(caption_to_image.max()) + 1, self.model.interaction
        return EncodedSplit(
            _in_order(_embeddings(images), count, "images", processes),
            _in_order(_embeddings(captions), len(caption_to_image), "captions", processes),
            None
            if interaction is None
            else interaction_in_order(interaction, images, captions, (count, len(caption_to_image)), processes),
        )


Rows = list[tuple[Float[Tensor, "_ columns"], Int[Tensor, " _"]]]  # parts of a table, and where they belong


def _embeddings(collected: Sequence[Embedded]) -> Rows:
    return [(part.embeddings.embeddings, part.rows) for part in collected]


def _in_order(collected: Rows, rows: int, what: str, processes: int) -> Float[Tensor, "rows columns"]:
    """A table with every row of the split, from all processes; an item that was encoded twice counts once."""
    values, index = (torch.cat(parts) for parts in zip(*collected, strict=True))
    if processes > 1:
        values, index = torch.cat(gather_all_tensors(values)), torch.cat(gather_all_tensors(index))
    seen = torch.bincount(index, minlength=rows) > 0
    if not seen.all():
        raise VSEError(f"{int((~seen).sum())} of {rows} {what} were not encoded; evaluate the whole split")
    table = torch.empty(rows, values.shape[1], device=values.device)
    table[index] = values
    return table


@torch.inference_mode()
def interaction_in_order(
    interaction: Interaction,
    images: Sequence[Embedded],
    captions: Sequence[Embedded],
    shape: tuple[int, int],
    processes: int,
) -> Float[Tensor, "images captions"]:
    """Similarity of every image and every caption of a split; each process compares its own images with all captions.

    Args:
        interaction: compares the items.
        images, captions: batches of this process.
        shape: number of images and of captions in the split.
        processes: of the evaluation.
    """
    own = join_features([part.embeddings.items for part in images])
    table = own.values.new_empty(len(own.lengths), shape[1])
    for items, rows in _of_all_processes([(part.embeddings.items, part.rows) for part in captions], processes):
        table[:, rows] = interaction(own, items)
    return _in_order([(table, torch.cat([part.rows for part in images]))], shape[0], "images", processes)


Sets = tuple[Features, Int[Tensor, " _"]]  # and their rows in the split


def _of_all_processes(own: list[Sets], processes: int) -> Iterator[Sets]:
    """The batches of all processes, one of each at a time: those of one process would fill the memory of the others."""
    if processes == 1:
        yield from own
        return
    (first, rows), device = own[0], own[0][1].device
    none = (Features(first.values[:0], first.lengths[:0]), rows[:0])
    counts = gather_all_tensors(torch.tensor(len(own), device=device))
    for number in range(int(torch.stack(counts).max())):
        (values, lengths), rows = own[number] if number < len(own) else none
        parts: list[list[Shaped[Tensor, "batch ..."]]] = [
            gather_all_tensors(part) for part in (values, lengths.to(device), rows)
        ]
        for values, lengths, rows in zip(*parts, strict=True):
            if len(rows):
                yield Features(values, lengths.cpu()), rows


class EmbeddingModule(pl.LightningModule):
    """Encodes every image and every caption of a split once, on any number of processes.

    Args:
        model: the two encoders.
        precision: see ``vse_gpo.batch.in_precision``.
    """

    def __init__(self, model: VSE, precision: int | str = 32) -> None:
        super().__init__()
        self.model = model
        self.collector = Collector(model, precision)
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
