"""python -m vse_gpo.extract : features of a data set's images, in the layout that the region backbones read."""

import json
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from vse_gpo.commands import device_of, run_command
from vse_gpo.errors import VSEError
from vse_gpo.writing import write_text

if TYPE_CHECKING:
    import torch
    from torch import nn

    from vse_gpo.data.pairs import EvaluationImages
    from vse_gpo.data.split import Split


SAVE_EVERY = 5.0  # seconds: what a killed extraction loses at most


def main() -> None:
    """The command."""
    run_command(extract, "extract")


def extract(config: DictConfig) -> None:
    """Write ``precomp/{split}_ims.npy`` with its captions, ids and index, and ``trunk``, which made them.

    A killed extraction goes on where it was. ``out`` may be the data set's own folder.

    Raises:
        VSEError: if ``out`` holds features of other images, of another trunk or type, or made by another program.
    """
    from hydra.utils import instantiate

    from vse_gpo.data.pairs import EvaluationImages
    from vse_gpo.trunks import keep_trunk

    out = Path(config.out).expanduser() / "precomp"
    trunk = out.parent / "trunk"
    if any(out.glob("*_ims.npy")) and not trunk.exists():
        raise VSEError(f"out={config.out}: holds features that this command has not written; name a new folder")
    out.mkdir(parents=True, exist_ok=True)
    source = instantiate(config.dataset.source)
    prepare = instantiate(config.backbone.prepare)
    splits = [source.split(name) for name in config.splits]  # bad data stop before any work
    for split in splits:
        check_kept(out, split, config.dtype)
    network = instantiate(config.backbone.network)
    settings: Any = OmegaConf.to_container(config.backbone, resolve=True)
    keep_trunk(trunk, network, {"network": settings["network"], "prepare": settings["prepare"]})
    for split in splits:
        write_text(index_file(out, split), json.dumps(describe_rows(split), indent=1))
        write_features(
            network,
            EvaluationImages(split, prepare),
            out / f"{split.name}_ims.npy",
            settings={"backbone": settings, "dtype": config.dtype},
            dtype=config.dtype,
            batch_size=config.batch_size,
            workers=config.workers,
            device=device_of(config.accelerator),
        )
        precomp = Path(config.dataset.root).expanduser() / "precomp"
        if not precomp.samefile(out):
            for kind in ("caps", "ids"):
                shutil.copyfile(precomp / f"{split.name}_{kind}.txt", out / f"{split.name}_{kind}.txt")


def check_kept(folder: Path, split: "Split", dtype: str) -> None:
    """Refuse to go on from, or to keep, features whose rows are other images or whose numbers are of another type.

    Args:
        folder: of the features.
        split: whose features are to lie in it.
        dtype: of the features.

    Raises:
        VSEError: if an earlier extraction has left such features.
    """
    import numpy as np

    path = folder / f"{split.name}_ims.npy"
    if path.is_file() and (found := np.load(path, mmap_mode="r").dtype) != np.dtype(dtype):
        raise VSEError(f"{path}: features in {found}, expected dtype={dtype}; name a new folder")
    index = index_file(folder, split)
    if index.is_file() and (path.is_file() or path.with_suffix(".part.npy").is_file()):
        kept = [(row["image_id"], row["file"]) for row in json.loads(index.read_text(encoding="utf-8"))]
        if kept != [(row["image_id"], row["file"]) for row in describe_rows(split)]:
            raise VSEError(f"{path}: features of other images than {split.name} has now; name a new folder")


def index_file(folder: Path, split: "Split") -> Path:
    """What tells which row is which image."""
    return folder / f"{split.name}_index.json"


def write_features(
    network: "nn.Module",
    images: "EvaluationImages",
    path: Path,
    *,
    settings: dict[str, Any],
    dtype: str,
    batch_size: int,
    workers: int,
    device: "torch.device",
) -> None:
    """Features (images, items, width) of every image, written as they come and named ``path`` only when complete."""
    import numpy as np
    import torch
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
    from torch.utils.data import DataLoader, Subset

    network = network.eval().to(device)
    part, progress_file = path.with_suffix(".part.npy"), path.with_suffix(".progress.json")
    first = _rows_done(progress_file, part, settings)
    if path.exists() and not part.exists():
        return
    loader = DataLoader(
        Subset(images, range(first, len(images))),
        batch_size=batch_size,
        num_workers=workers,
        collate_fn=images.collate,
    )
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    features = np.load(part, mmap_mode="r+") if first else None
    saved = time.monotonic()
    with torch.inference_mode(), Progress(*columns) as progress:
        task = progress.add_task(path.stem, total=len(images), completed=first)
        for inputs, index in loader:
            values = network(inputs.to(device)).values.float().cpu().numpy()
            if features is None:
                shape = (len(images), *values.shape[1:])
                features = np.lib.format.open_memmap(part, mode="w+", dtype=dtype, shape=shape)
            features[index.numpy()] = values
            done = int(index[-1]) + 1
            if time.monotonic() - saved > SAVE_EVERY or done == len(images):
                features.flush()
                write_text(progress_file, json.dumps({"rows": done, "settings": settings}))
                saved = time.monotonic()
            progress.update(task, advance=len(index))
    part.replace(path)
    progress_file.unlink()


def _rows_done(progress_file: Path, part: Path, settings: dict[str, Any]) -> int:
    """Rows that an earlier, interrupted extraction with the same settings has written."""
    if not (progress_file.is_file() and part.is_file()):
        return 0
    done = json.loads(progress_file.read_text(encoding="utf-8"))
    return int(done["rows"]) if done["settings"] == settings else 0


def describe_rows(split: "Split") -> list[dict[str, Any]]:
    """Which row is which image, file and captions."""
    captions: list[list[int]] = [[] for _ in split.image_ids]
    for caption, row in enumerate(split.caption_to_image.tolist()):
        captions[row].append(caption)
    return [
        {"row": row, "image_id": image_id, "file": split.images.name(row), "captions": captions[row]}
        for row, image_id in enumerate(split.image_ids)
    ]


if __name__ == "__main__":
    main()
