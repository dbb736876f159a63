"""An index of a folder of pictures, made with a model."""

from dataclasses import asdict
from pathlib import Path

import torch
from hydra import compose, initialize_config_dir

from tests.helpers.photo_folder import stored
from vse_gpo import VSE
from vse_gpo.cli.run import config_folder
from vse_gpo.data.encoding import Encoding
from vse_gpo.index import arguments
from vse_gpo.search.index import Index
from vse_gpo.search.indexing import build_index
from vse_gpo.search.items import Compaction
from vse_gpo.search.pictures import embed_pictures, find_pictures
from vse_gpo.search.stored import IndexSettings

FILES = [f"{folder}{number}.png" for folder in ("", "deep/") for number in range(4)]
HOSTILE = "<img src=x onerror=alert(1)> ${1+1} {{value}} `.png"  # a file's name


def indexed(home: Path, model: VSE, compaction: Compaction | None = None) -> Index:
    """An index of home's pictures, in home."""
    encoding = Encoding(batch_size=1000, workers=0, devices=[torch.device("cpu")])
    found = find_pictures(home / "pictures").pictures
    [batch] = embed_pictures(model, home / "pictures", found, encoding, compaction)
    settings = IndexSettings(
        images=str(home / "pictures"),
        model="model",
        tokenizer=None,
        vocabulary=None,
        fingerprint=model.fingerprint(),
        version=1,
        items=None if compaction is None else asdict(compaction),
    )
    return stored(home / "index", batch, settings)


def run_index(*overrides: object) -> None:
    """What ``vse-index`` does, in this process."""
    with initialize_config_dir(config_folder(), version_base="1.3"):
        config = compose("index", ["workers=0", "accelerator=cpu", "batch_size=2", *map(str, overrides)])
    build_index(**arguments(config, Path()))


def vectors(folder: Path) -> dict[str, torch.Tensor]:
    """The embedding of every picture in an index, by its name."""
    found = Index.load(folder)
    return dict(zip(found.names.to_pylist(), torch.from_numpy(found.embeddings()), strict=True))


def item_sets(folder: Path) -> dict[str, bytes]:
    """The set of items of every picture in an index, by its name."""
    found = Index.load(folder)
    sets = [found.item_sets([row]) for row in range(len(found))]
    contents = [b"".join(part.numpy().tobytes() for part in one) for one in sets]
    return dict(zip(found.names.to_pylist(), contents, strict=True))
