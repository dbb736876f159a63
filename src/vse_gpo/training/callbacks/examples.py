"""Example retrievals: captions, the images that the model ranks first for them, and the true one."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.loggers import Logger, WandbLogger

from vse_gpo.data.split import ImageSource
from vse_gpo.figures.examples import Example, choose_queries, draw_examples, drawable_images, retrieve, thumbnail
from vse_gpo.storage.registry import DATA_PARTS
from vse_gpo.storage.settings import build
from vse_gpo.storage.writing import whole_file
from vse_gpo.training.callbacks.pictures import log_picture, picture_path
from vse_gpo.training.module import RetrievalModule

build_data = partial(build, parts=DATA_PARTS)


class Examples(Callback):
    """Draws a few queries with their top-ranked images after each validation into ``examples/epoch_NN.png``.

    The queries are the same in every epoch. TensorBoard and W&B get the figure as ``val/examples``, W&B also a table
    with one image per cell. A run on features shows the images that they were made of if these lie in the data set's
    folder, and otherwise their names.

    Args:
        queries: number of dev captions.
        seed: seed of their choice.
    """

    def __init__(self, *, queries: int, seed: int) -> None:
        self.queries = queries
        self.seed = seed
        self._images: ImageSource | None = None  # looked for once

    def on_validation_end(self, trainer: pl.Trainer, pl_module: RetrievalModule) -> None:  # type: ignore[override]
        if pl_module.encoded is None or not trainer.is_global_zero:  # none after a sanity check
            return
        split = pl_module.split("dev")
        rows = choose_queries(split, count=self.queries, seed=self.seed)
        examples = retrieve(pl_module.encoded.similarities().image_caption, split, rows)
        if self._images is None:
            dataset = pl_module.settings.get("dataset")
            self._images = (drawable_images(split, dataset, build_data) if dataset else None) or split.images
        path = picture_path(trainer, "examples")
        with whole_file(path) as file:
            draw_examples(examples, self._images).save(file, format="PNG")
        log_picture(trainer.loggers, "val/examples", path, trainer.global_step)
        log_table(trainer.loggers, "val/examples_table", examples, self._images, trainer.global_step)


def log_table(loggers: Sequence[Logger], key: str, examples: Sequence[Example], images: ImageSource, step: int) -> None:
    """Log the examples to W&B, one query per row."""
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            import wandb  # noqa: PLC0415, only its logger needs it

            def cell(row: int, images: ImageSource = images) -> Any:
                return wandb.Image(thumbnail(images, row), caption=images.name(row))

            shown = max(len(example.first) for example in examples)
            columns = ["caption", "rank of the true image", "true image", *map(str, range(1, shown + 1))]
            data = [[e.caption, e.rank, cell(e.truth), *map(cell, e.first)] for e in examples]
            logger.log_table(key, columns, data, step=step)
