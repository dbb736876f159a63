"""The embedded data set as shards, to try what large data sets need without one."""

from collections.abc import Sequence
from pathlib import Path

from vse_gpo.data.shapes import ShapesDataset
from vse_gpo.data.shards.dataset import ShardsDataset
from vse_gpo.data.shards.writing import samples_of, write_shards
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
