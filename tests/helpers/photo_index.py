"""An index of a folder of pictures, made with a model."""

from pathlib import Path

import numpy as np
import torch
from hydra import compose, initialize_config_dir

from vse_gpo import VSE
from vse_gpo.cli.run import config_folder
from vse_gpo.index import arguments
from vse_gpo.search.index import Index, IndexSettings, write_index
from vse_gpo.search.indexing import build_index
from vse_gpo.search.kinds import Flat
from vse_gpo.search.pictures import find_pictures

FILES = [f"{folder}{number}.png" for folder in ("", "deep/") for number in range(4)]
HOSTILE = "<img src=x onerror=alert(1)> ${1+1} {{value}} `.png"  # a file's name


def indexed(home: Path, model: VSE) -> Index:
    """An index of home's pictures, in home."""
    pictures = find_pictures(home / "pictures").pictures
    embeddings = model.encode_images([home / "pictures" / picture.file for picture in pictures])
    settings = IndexSettings(
        images=str(home / "pictures"),
        model="model",
        tokenizer=None,
        vocabulary=None,
        fingerprint=model.fingerprint(),
        kind=repr(Flat()),
    )
    folder = home / "index"
    folder.mkdir()
    write_index(
        folder,
        pictures=pictures,
        embeddings=[embeddings.numpy()],
        settings=settings,
        kind=Flat(),
        random=np.random.default_rng(0),
    )
    return Index.load(folder)


def run_index(*overrides: object) -> None:
    """What ``vse-index`` does, in this process."""
    with initialize_config_dir(config_folder(), version_base="1.3"):
        config = compose("index", ["workers=0", "accelerator=cpu", "batch_size=2", *map(str, overrides)])
    build_index(**arguments(config, Path()))


def vectors(folder: Path) -> dict[str, torch.Tensor]:
    """The embedding of every picture in an index, by its name."""
    found = Index.load(folder)
    rows = torch.from_numpy(found.embeddings().copy())
    return dict(zip([picture.file for picture in found.pictures], rows, strict=True))
