"""A folder of pictures and a model, small enough to index many times."""

import os
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from tests.helpers.small_settings import SETTINGS
from vse_gpo import VSE
from vse_gpo.model import build_model
from vse_gpo.search.index import Index
from vse_gpo.search.indexing import finish
from vse_gpo.search.items import ItemSets
from vse_gpo.search.kinds import Flat, Kind
from vse_gpo.search.metadata import Facts
from vse_gpo.search.pictures import EmbeddedImages, Photo
from vse_gpo.search.records import record_batch
from vse_gpo.search.stored import IndexSettings, Picture, is_index
from vse_gpo.search.writer import TableWriter
from vse_gpo.storage.settings import build


def small_model(seed: int = 0, interaction: str | None = None) -> VSE:
    """A model of 4×4 cells; with an interaction if one is named."""
    torch.manual_seed(seed)
    compares = None if interaction is None else {"_target_": f"vse_gpo.interaction.{interaction}"}
    settings = SETTINGS | {"interaction": compares}
    return build_model(settings, build(settings).state_dict())


def paint(path: Path, seed: int, mode: str = "RGB") -> Path:
    """A picture of four random colours, in the format that the name asks for."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(256, size=(2, 2, 3), dtype=np.uint8)
    Image.fromarray(pixels).resize((40, 30), Image.Resampling.NEAREST).convert(mode).save(path)
    return path


def touch(path: Path, later: int) -> None:
    """Let a file look changed."""
    status = path.stat()
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + later))


def unit(rows: int, width: int = 16, seed: int = 0) -> Tensor:
    """Embeddings around a few centres."""
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(10, width, generator=generator)
    noise = torch.randn(rows, width, generator=generator)
    return torch.nn.functional.normalize(centres[torch.arange(rows) % 10] + 0.7 * noise, dim=1)


def written(folder: Path, embeddings: Tensor, kind: Kind | None = None, sets: ItemSets | None = None) -> Index:
    """An index of embeddings, named after their rows, and of sets of four int8 items."""
    pictures = [Picture(f"{row}.png", 1, 1) for row in range(len(embeddings))]
    settings = IndexSettings(
        images=str(folder / "pictures"),
        model="model",
        tokenizer=None,
        vocabulary=None,
        fingerprint="f" * 64,
        version=1,
        approximate=(kind or Flat()).settings,
        items=None if sets is None else {"most": 4, "numbers": "int8"},
    )
    photos = [Photo(str(row), Facts(1, 1, None, None, None, None), None, None) for row in range(len(embeddings))]
    return stored(folder, EmbeddedImages(pictures, embeddings, {}, sets, photos), settings)


def stored(folder: Path, images: EmbeddedImages, settings: IndexSettings) -> Index:
    """An index of these images only."""
    folder.mkdir(parents=True, exist_ok=True)
    former = Index.load(folder) if is_index(folder) else None
    table = TableWriter(folder)
    if former is not None:
        table.start_over()
    table.append(record_batch(images), {})
    finish(folder, table, former, settings, resumed=False, random=np.random.default_rng(0))
    return Index.load(folder)
