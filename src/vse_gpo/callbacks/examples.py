"""Example retrievals: captions, the images that the model ranks first for them, and the true one."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import pytorch_lightning as pl
import torch
from jaxtyping import Float
from PIL import Image, ImageDraw, ImageFont
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.loggers import Logger, WandbLogger
from torch import Tensor
from torchvision.transforms.v2.functional import to_pil_image

from vse_gpo.callbacks.pictures import log_picture, picture_path
from vse_gpo.data.split import ImageSource, Split
from vse_gpo.module import RetrievalModule
from vse_gpo.writing import whole_file

SHOWN = 5
SIDE, GAP, LINE = 144, 10, 26  # pixels
TRUE, FALSE, BLANK = "#2e9e4f", "#c9c9c9", "#f0f0f0"


class Example(NamedTuple):
    """One caption as a query; images by their rows in the split."""

    caption: str
    truth: int
    rank: int  # of the true image, from 1; ties count against it
    first: list[int]  # the images ranked first


class Examples(Callback):
    """Draws a few queries with their first images after each validation into ``examples/epoch_NN.png``.

    The queries are the same in every epoch. TensorBoard gets the picture as ``val/examples``, W&B the same as a table
    with one picture per cell. Features have no pictures: the images' names stand in their place.

    Args:
        queries: how many captions of dev.
        seed: of their choice.
    """

    def __init__(self, *, queries: int, seed: int) -> None:
        self.queries = queries
        self.seed = seed

    def on_validation_end(self, trainer: pl.Trainer, pl_module: RetrievalModule) -> None:  # type: ignore[override]
        if pl_module.embeddings is None or not trainer.is_global_zero:  # a sanity check has none
            return
        split = pl_module.split("dev")
        rows = choose_queries(split, count=self.queries, seed=self.seed)
        examples = retrieve(*pl_module.embeddings, split, rows)
        path = picture_path(trainer, "examples")
        with whole_file(path) as file:
            draw_examples(examples, split.images).save(file, format="PNG")
        log_picture(trainer.loggers, "val/examples", path, trainer.global_step)
        log_table(trainer.loggers, "val/examples_table", examples, split.images, trainer.global_step)


def choose_queries(split: Split, *, count: int, seed: int) -> list[int]:
    """Captions at random, by their rows."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randperm(len(split.captions), generator=generator)[:count].tolist()


def retrieve(
    images: Float[Tensor, "images dim"], captions: Float[Tensor, "captions dim"], split: Split, rows: Sequence[int]
) -> list[Example]:
    """The first images for each of these captions."""
    examples = []
    for row, similarity in zip(rows, captions[rows] @ images.T, strict=True):
        truth = int(split.caption_to_image[row])
        rank = int((similarity >= similarity[truth]).sum())
        first = similarity.topk(min(SHOWN, len(similarity))).indices.tolist()
        examples.append(Example(split.captions[row], truth, rank, first))
    return examples


def log_table(loggers: Sequence[Logger], key: str, examples: Sequence[Example], images: ImageSource, step: int) -> None:
    """Hand the examples to W&B, one query a row."""
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            import wandb

            def cell(row: int, images: ImageSource = images) -> Any:
                return wandb.Image(tile(images, row), caption=images.name(row))

            shown = max(len(example.first) for example in examples)
            columns = ["caption", "rank of the true image", "true image", *map(str, range(1, shown + 1))]
            data = [[e.caption, e.rank, cell(e.truth), *map(cell, e.first)] for e in examples]
            logger.log_table(key, columns, data, step=step)


# drawing


def draw_examples(examples: Sequence[Example], images: ImageSource) -> Image.Image:
    """Each caption above its first images, the true one framed, or apart at the right if it is not among them."""
    height = LINE + SIDE + 2 * GAP
    width = (SHOWN + 1) * (SIDE + GAP) + 3 * GAP
    canvas = Image.new("RGB", (width, len(examples) * height + GAP), "white")
    pen, font = ImageDraw.Draw(canvas), ImageFont.load_default(size=16)
    for line, example in enumerate(examples):
        top = line * height + GAP
        pen.text((GAP, top), cut(example.caption, font, SHOWN * (SIDE + GAP)), fill="black", font=font)
        places = {GAP + column * (SIDE + GAP): row for column, row in enumerate(example.first)}
        if example.truth not in example.first:
            apart = 3 * GAP + SHOWN * (SIDE + GAP)
            places[apart] = example.truth
            pen.text((apart, top), f"rank {example.rank}", fill=TRUE, font=font)
        for left, row in places.items():
            true = row == example.truth
            frame = (left - 4, top + LINE - 4, left + SIDE + 3, top + LINE + SIDE + 3)
            pen.rectangle(frame, outline=TRUE if true else FALSE, width=4 if true else 1)
            canvas.paste(tile(images, row), (left, top + LINE))
    return canvas


def cut(text: str, font: "ImageFont.FreeTypeFont | ImageFont.ImageFont", width: int) -> str:
    """As much of a text as fits into so many pixels."""
    while font.getlength(text) > width:
        text = f"{text[:-2]}…"
    return text


def tile(images: ImageSource, row: int) -> Image.Image:
    """An image as a small square, or its name where there are only its features."""
    image = images[row]
    if image.dtype == torch.uint8:
        return to_pil_image(image).resize((SIDE, SIDE), Image.Resampling.LANCZOS)
    blank = Image.new("RGB", (SIDE, SIDE), BLANK)
    ImageDraw.Draw(blank).text((GAP, SIDE // 2), images.name(row), fill="black", font=ImageFont.load_default(size=14))
    return blank
