"""The embedded data set as shards, to try what large data sets need without one."""

import io
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from vse_gpo.data.shapes import ShapesDataset
from vse_gpo.data.shards.dataset import ShardsDataset
from vse_gpo.data.shards.writing import StoredSample, write_shards
from vse_gpo.data.split import Split
from vse_gpo.storage.writing import whole_folder


def drawn_shards(
    *, folder: str, shapes: ShapesDataset, splits: Sequence[str], per_shard: int, at_once: int | None
) -> ShardsDataset:
    """Write the splits that are not there yet, and read them.

    Args:
        folder: for a folder of each split, which is named after what determines it.
        shapes: draws them.
        splits: their names.
        per_shard: samples in each shard.
        at_once: see ``ShardsDataset``.
    """
    root = Path(folder).expanduser()
    settings = f"{shapes.size}_{shapes.captions}_{shapes.seed}_{per_shard}"
    folders = {name: root / f"{name}_{shapes.images[name]}_{settings}" for name in splits}
    for name, place in folders.items():
        if not place.exists():
            with whole_folder(place) as part:
                write_shards(samples_of(shapes.split(name)), part, name, per_shard=per_shard)
    sources = {name: str(place / f"{name}-*.tar") for name, place in folders.items()}
    return ShardsDataset(sources=sources, decoded=[], at_once=at_once, cache=str(root))


def samples_of(split: Split) -> Iterator[StoredSample]:
    """A split's images as PNG files, which lose nothing, with their captions.

    Args:
        split: of pixels, its captions in the order of the images.
    """
    ends = np.searchsorted(split.caption_to_image, np.arange(len(split.images)), side="right").tolist()
    start = 0
    for row, end in enumerate(ends):
        file = io.BytesIO()
        Image.fromarray(split.images[row].permute(1, 2, 0).numpy()).save(file, "PNG")
        yield StoredSample(str(split.image_ids[row]), file.getvalue(), "png", list(split.captions[start:end]))
        start = end
