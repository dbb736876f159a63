"""Copies of a photo as people make them without meaning to: saved again, resized, cropped, brightened, marked."""

from collections.abc import Callable
from pathlib import Path

from PIL import Image, ImageDraw, ImageEnhance, ImageFont, ImageOps

Change = Callable[[Image.Image], Image.Image]


def crop(left: float, top: float, right: float, bottom: float) -> Change:
    """Cut off shares of an image."""

    def cut(image: Image.Image) -> Image.Image:
        width, height = image.size
        return image.crop(
            (round(width * left), round(height * top), width - round(width * right), height - round(height * bottom))
        )

    return cut


def write(text: str, across: float, down: float, size: float, opacity: int) -> Change:
    """Write a transparent text over an image; places and size are shares of it."""

    def marked(image: Image.Image) -> Image.Image:
        layer = Image.new("RGBA", image.size, (255, 255, 255, 0))
        font = ImageFont.load_default(max(8, image.width * size))
        place = (image.width * across, image.height * down)
        ImageDraw.Draw(layer).text(place, text, fill=(255, 255, 255, opacity), font=font)
        return Image.alpha_composite(image.convert("RGBA"), layer).convert("RGB")

    return marked


def border(share: float, colour: str) -> Change:
    """A frame around an image, a share of its width wide."""
    return lambda image: ImageOps.expand(image, round(image.width * share), colour)


def same(image: Image.Image) -> Image.Image:
    """The image, to be saved in another way."""
    return image


CHANGES: dict[str, tuple[Change, dict[str, int]]] = {  # name of the file → change, options of saving
    "quality_40.jpg": (same, {"quality": 40}),
    "half.jpg": (lambda image: image.resize((image.width // 2, image.height // 2)), {}),
    "cropped.jpg": (crop(0.015, 0.015, 0.015, 0.015), {}),  # 3 % of width and height
    "cropped_left.jpg": (crop(0.03, 0, 0, 0), {}),
    "darker.jpg": (lambda image: ImageEnhance.Brightness(image).enhance(0.85), {}),
    "brighter.jpg": (lambda image: ImageEnhance.Brightness(image).enhance(1.15), {}),
    "watermark.jpg": (write("© photo site", 0.55, 0.9, 0.06, 170), {}),
    "across.jpg": (write("SAMPLE", 0.1, 0.42, 0.2, 110), {}),
    "black_border.jpg": (border(0.02, "black"), {}),
    "white_border.jpg": (border(0.02, "white"), {}),
    "other.webp": (same, {"quality": 60}),
    "other.png": (same, {}),
    "other.gif": (same, {}),
}


def plant(image: Image.Image, folder: Path) -> list[Path]:
    """Save every changed copy of an image in a folder.

    Args:
        image: in colour.
        folder: is made.
    """
    folder.mkdir(parents=True)
    for name, (change, options) in CHANGES.items():
        change(image).save(folder / name, **options)
    return [folder / name for name in CHANGES]
