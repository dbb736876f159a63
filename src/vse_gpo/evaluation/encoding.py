"""Embeddings of a whole split: computed batch by batch, on any number of processes, in the order of the split."""

from collections.abc import Callable, Mapping
from typing import Any

import pytorch_lightning as pl
import torch
from jaxtyping import Float
from torch import Tensor
from torchmetrics.utilities.distributed import gather_all_tensors

from vse_gpo.batch import Embedded, Indexed, encode_batches
from vse_gpo.data.datamodule import PairsDataModule, Source
from vse_gpo.data.split import Split
from vse_gpo.errors import VSEError
from vse_gpo.model import VSE

IMAGES, CAPTIONS = 0, 1  # order of the evaluation loaders
Embeddings = tuple[Float[Tensor, "images dim"], Float[Tensor, "captions dim"]]


class Collector:
    """Encodes batches of images and captions, and returns the embeddings in the order of the split.

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
        self._collected[modality].extend(encode_batches(encoder, [batch], batch.rows.device, self.precision))

    def clear(self) -> None:
        """Drop the embeddings kept so far."""
        self._collected = ([], [])

    def gather(self, caption_to_image: Any, *, processes: int) -> Embeddings:
        """The embeddings of all processes in the order of the split; empties the collector.

        Raises:
            VSEError: if a row of the split was not encoded.
        """
        images, captions = self._collected
        self.clear()
        return (
            _in_order(images, int(caption_to_image.max()) + 1, "images", processes),
            _in_order(captions, len(caption_to_image), "captions", processes),
        )


def _in_order(collected: list[Embedded], rows: int, what: str, processes: int) -> Float[Tensor, "rows dim"]:
    """One embedding per row of the split, from all processes; an item that was encoded twice counts once."""
    embeddings = torch.cat([part.embeddings for part in collected])
    index = torch.cat([part.rows for part in collected])
    if processes > 1:
        embeddings, index = torch.cat(gather_all_tensors(embeddings)), torch.cat(gather_all_tensors(index))
    seen = torch.bincount(index, minlength=rows) > 0
    if not seen.all():
        raise VSEError(f"{int((~seen).sum())} of {rows} {what} were not encoded; evaluate the whole split")
    table = torch.empty(rows, embeddings.shape[1], device=embeddings.device)
    table[index] = embeddings
    return table


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
        self.embeddings: Embeddings | None = None  # of the last evaluated split

    def test_step(self, batch: Indexed, batch_idx: int, dataloader_idx: int) -> None:
        self.collector.add(batch, dataloader_idx)

    def on_test_epoch_end(self) -> None:
        index = self.split("test").caption_to_image
        self.embeddings = self.collector.gather(index, processes=self.trainer.world_size)

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


def encode_split(model: VSE, data: PairsDataModule, part: str = "test") -> Embeddings:
    """Unit embeddings of a split's images and captions, in this process, on the model's device."""
    collector = Collector(model)
    device = next(model.parameters()).device
    for modality, loader in enumerate(data.evaluation_dataloaders(part)):
        for batch in loader:
            collector.add(batch.to(device), modality)
    return collector.gather(data.split(part).caption_to_image, processes=1)
