"""Tiny data sets in tars, and trainings on them, each process of which can be killed."""

import io
import multiprocessing
import os
import signal
import socket
import tarfile
from collections.abc import Mapping, Sequence
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from PIL import Image

from tests.helpers.tiny import TinySource, save_last, tiny_data, tiny_module, tiny_trainer, weights
from vse_gpo.backbones.small import small_grid
from vse_gpo.data.images import PrepareImages
from vse_gpo.data.shards import ShardsDataset
from vse_gpo.training.ddp import PhasedDDP

SIDE = 16
BROKEN = 4  # image whose file is cut


def encoded(seed: int, kind: str = "PNG", side: int = SIDE) -> bytes:
    """An image file."""
    file = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


def write_tar(path: Path, files: Mapping[str, bytes] | Sequence[tuple[str, bytes]], **settings: Any) -> Path:
    """A tar of these files, as ``tarfile`` writes it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", **settings) as tar:
        for name, data in files.items() if isinstance(files, Mapping) else files:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


def write_tiny_shards(folder: Path) -> None:
    """The captions of ``TinySource`` in three shards of train, the image of one of them cut, and one of dev."""
    split = TinySource().split("train")
    for name, shards in (("train", 3), ("dev", 1)):
        for number, rows in enumerate(np.array_split(np.arange(len(split.images)), shards)):
            files = {}
            for row in rows.tolist():
                texts = [split.captions[caption] for caption in np.flatnonzero(split.caption_to_image == row)]
                files[f"{row:03d}.png"] = encoded(row)[: 40 if (name, row) == ("train", BROKEN) else None]
                files[f"{row:03d}.txt"] = "\n".join(texts).encode()
            write_tar(folder / f"{name}-{number}.tar", files)


def tiny_shards(folder: Path, **changes: Any) -> ShardsDataset:
    sources = {"train": str(folder / "train-{0..2}.tar"), "dev": str(folder / "dev-0.tar")}
    settings: dict[str, Any] = {"sources": sources, "decoded": ["dev"], "cache": str(folder / "cache")}
    return ShardsDataset(**(settings | changes))


class Kill(pl.Callback):
    """SIGKILL after a step."""

    def __init__(self, step: int | None) -> None:
        self.step = step

    def on_train_batch_end(self, trainer: pl.Trainer, *rest: object) -> None:
        if trainer.global_step == self.step:
            os.kill(os.getpid(), signal.SIGKILL)


def train_on_shards(
    data: Path,
    folder: Path,
    workers: int,
    at_once: int | None,
    kill_at: int | None,
    resume: Path | None,
    rank: int = 0,
    processes: int = 1,
    port: int = 0,
) -> None:
    """One process of a training of 3 epochs, 6 steps each; ``weights.pt`` is what the first one ends with."""
    torch.set_num_threads(1)
    multiprocessing.set_start_method("fork", force=True)  # of the loader's, as in a process of one's own
    if processes > 1:
        places = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": processes, "NODE_RANK": 0}
        os.environ |= {name: str(value) for name, value in (places | {"LOCAL_RANK": rank, "RANK": rank}).items()}
    module = tiny_module(backbone=small_grid(width=6))
    trainer = tiny_trainer(
        folder,
        devices=processes,
        strategy=PhasedDDP() if processes > 1 else "auto",
        callbacks=[save_last(folder, 4), Kill(kill_at)],
    )
    pairs = tiny_data(source=tiny_shards(data, at_once=at_once), images=PrepareImages(size=SIDE), workers=workers)
    trainer.fit(module, datamodule=pairs, ckpt_path=resume, weights_only=True)
    if rank == 0:
        torch.save(weights(module), folder / "weights.pt")


def run_processes(context: ForkServerContext, processes: int, *arguments: object) -> list[int | None]:
    """Exit codes of a training's processes.

    Args:
        context: starts them.
        processes: their number.
        arguments: the first six of ``train_on_shards``.
    """
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    started = [
        context.Process(target=train_on_shards, args=(*arguments, rank, processes, port)) for rank in range(processes)
    ]
    for process in started:
        process.start()
    for process in started:
        process.join()
    return [process.exitcode for process in started]
