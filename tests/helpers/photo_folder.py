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
from vse_gpo.search.kinds import Flat, Kind
from vse_gpo.search.stored import IndexSettings, Picture, write_index
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


def written(folder: Path, embeddings: Tensor, kind: Kind | None = None, records: np.ndarray | None = None) -> Index:
    """An index of embeddings, named after their rows, and of sets of four int8 items."""
    folder.mkdir(parents=True, exist_ok=True)
    write_index(
        folder,
        pictures=[Picture(f"{row}.png", 1, 1) for row in range(len(embeddings))],
        embeddings=[block.numpy() for block in embeddings.split(70)],
        settings=IndexSettings(
            images=str(folder / "pictures"),
            model="model",
            tokenizer=None,
            vocabulary=None,
            fingerprint="f" * 64,
            kind=repr(kind),
            items=None if records is None else {"most": 4, "numbers": "int8"},
        ),
        records=[] if records is None else [records],
        kind=kind or Flat(),
        random=np.random.default_rng(0),
    )
    return Index.load(folder)
