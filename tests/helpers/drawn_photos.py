"""Images with structure at every scale, as photographs have: smooth colours, shapes and a grain."""

import numpy as np
from PIL import Image, ImageDraw


def drawn_photo(seed: int, size: tuple[int, int] = (400, 300)) -> Image.Image:
    """A picture of its own for each seed.

    Args:
        seed: of what is drawn.
        size: width and height.
    """
    random = np.random.default_rng(seed)
    image = Image.fromarray(random.integers(256, size=(4, 5, 3), dtype=np.uint8)).resize(size, Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(image)
    for _ in range(12):
        left, top = (int(random.uniform(-0.1, 0.9) * side) for side in size)
        right, bottom = left + int(random.uniform(20, size[0] / 2)), top + int(random.uniform(20, size[1] / 2))
        colour = tuple(random.integers(256, size=3).tolist())
        (draw.ellipse if random.random() < 0.5 else draw.rectangle)((left, top, right, bottom), fill=colour)
    grain = random.normal(0, 6, size=(size[1], size[0], 3))
    return Image.fromarray((np.asarray(image) + grain).clip(0, 255).astype(np.uint8))
