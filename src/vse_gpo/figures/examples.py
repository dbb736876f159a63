"""Example retrievals: captions, the images that a model ranks first for them, and the true one."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from PIL import Image, ImageDraw, ImageFont
from torchvision.transforms.v2.functional import to_pil_image

from vse_gpo.data.datamodule import Source
from vse_gpo.data.images import ImageFiles
from vse_gpo.data.split import ImageSource, SomeImages, Split
from vse_gpo.errors import VSEError
from vse_gpo.retrieval.similarity import Similarity

SHOWN = 5
SIDE, GAP, LINE = 144, 10, 26  # pixels
TRUE, FALSE, BLANK = "#2e9e4f", "#c9c9c9", "#f0f0f0"


def drawable_images(
    split: Split, dataset: Mapping[str, Any], make_source: Callable[[Mapping[str, Any]], Source]
) -> ImageSource | None:
    """The images of a split, also of one that holds their features; None if their files are not beside the features.

    Args:
        split: images or features.
        dataset: settings of its data set.
        make_source: settings of a data set's source → the data set.
    """
    if split.images[0].dtype == torch.uint8:
        return split.images
    opener = partial(ImageFiles, folder=dataset["image_folder"])
    try:
        opened = make_source(dict(dataset["source"]) | {"open_images": opener}).split(split.name)
    except VSEError:
        return None
    row_of = {image_id: row for row, image_id in enumerate(opened.image_ids)}  # a split may be the head of its files'
    return SomeImages(opened.images, [row_of[image_id] for image_id in split.image_ids])


class Example(NamedTuple):
    """One caption as a query; images by their rows in the split."""

    caption: str
    truth: int
    rank: int  # rank of the true image, from 1; ties count against it
    first: list[int]  # the top-ranked images


def choose_queries(split: Split, *, count: int, seed: int) -> list[int]:
    """Rows of randomly chosen captions."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randperm(len(split.captions), generator=generator)[:count].tolist()


def retrieve(similarity: Similarity, split: Split, rows: Sequence[int]) -> list[Example]:
    """The top-ranked images for each of these captions.

    Args:
        similarity: of the images and captions of the split.
        split: what was compared.
        rows: of the captions.
    """
    images = similarity.shape[0]
    asked = similarity.transpose().select(
        torch.tensor(rows, device=similarity.device), torch.arange(images, device=similarity.device)
    )
    examples = []
    for row, values in zip(rows, asked.tile(slice(0, len(rows)), slice(0, images)), strict=True):
        truth = int(split.caption_to_image[row])
        rank = int((values >= values[truth]).sum())
        first = values.topk(min(SHOWN, images)).indices.tolist()
        examples.append(Example(split.captions[row], truth, rank, first))
    return examples


# drawing


def draw_examples(examples: Sequence[Example], images: ImageSource) -> Image.Image:
    """Draw each caption above its top images; the true one is framed, or at the far right if it is not among them."""
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
            canvas.paste(thumbnail(images, row), (left, top + LINE))
    return canvas


def cut(text: str, font: "ImageFont.FreeTypeFont | ImageFont.ImageFont", width: int) -> str:
    """Shorten a text to fit a width in pixels."""
    while font.getlength(text) > width:
        text = f"{text[:-2]}…"
    return text


def thumbnail(images: ImageSource, row: int) -> Image.Image:
    """An image as a small square, or its name if there are only features."""
    image = images[row]
    if image.dtype == torch.uint8:
        return to_pil_image(image).resize((SIDE, SIDE), Image.Resampling.LANCZOS)
    blank = Image.new("RGB", (SIDE, SIDE), BLANK)
    ImageDraw.Draw(blank).text((GAP, SIDE // 2), images.name(row), fill="black", font=ImageFont.load_default(size=14))
    return blank
