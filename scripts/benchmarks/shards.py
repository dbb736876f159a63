"""Shards against a folder: images per second and core, the index, its memory, and random reads."""

import json
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader

from benchmarks.loader import DETAIL, HEIGHT, PICTURES, WIDTH, jpegs
from benchmarks.measure import Measured, alone, begin_peak, peak
from vse_gpo.data.decoding import jpeg_decoder
from vse_gpo.data.files import read_listing
from vse_gpo.data.images import ImageFiles, PrepareImages
from vse_gpo.data.pairs import EvaluationImages
from vse_gpo.data.shards.dataset import ShardsDataset
from vse_gpo.data.shards.writing import StoredSample, write_shards
from vse_gpo.data.split import DiskDataset, Split

SHARDS = 100
READS = 40_000
SIZES = (512, 224)
ROUNDS = 5


def shards(samples: int) -> list[Measured]:
    """Time, in seconds of one core, so that other programs on the machine change little."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        return [_against_folder(Path(folder)), alone(_tiny_samples, Path(folder), samples)]


def _against_folder(folder: Path) -> Measured:
    (folder / "images").mkdir()
    files = jpegs(folder / "images", *DETAIL[1])
    ids = [file.stem for file in files]
    (folder / "precomp").mkdir()
    for kind in ("caps", "ids"):
        (folder / "precomp" / f"train_{kind}.txt").write_text("\n".join(ids) + "\n")
    (folder / "id_mapping.json").write_text(json.dumps({file.stem: file.name for file in files}))
    written = write_shards(
        (StoredSample(file.stem, file.read_bytes(), "jpg", [file.stem]) for file in files),
        folder,
        "train",
        per_shard=16,
    )
    listing = read_listing(folder, "train")
    of_files = DiskDataset(root=str(folder), open_images=lambda root, _: ImageFiles(root, listing, folder="images"))
    of_shards = ShardsDataset(sources={"train": [str(path) for path in written]}, decoded=[])
    splits = of_files.split("train"), of_shards.split("train")
    rows = []
    for size in SIZES:
        folder_rate, shard_rate = _rates(splits, size)
        rows.append([f"{size}×{size}", folder_rate, shard_rate, shard_rate / folder_rate])
    kilobytes = sum(file.stat().st_size for file in files) / len(files) / 1000
    title = f"{PICTURES} JPEGs of {WIDTH}×{HEIGHT}, {kilobytes:.0f} kB each, by the loader on one core"
    return Measured(title, ["", "images/s of a folder", "images/s of shards", "shards / folder"], rows)


def _rates(splits: Iterable[Split], size: int) -> list[float]:
    """Images per second of each; they take turns, and the median counts."""
    prepare = PrepareImages(size=size)
    items = [EvaluationImages(split, prepare) for split in splits]
    loaders = [DataLoader(one, batch_size=16, collate_fn=one.collate) for one in items]
    taken: list[list[float]] = [[] for _ in loaders]
    for turn in range(ROUNDS + 1):
        for own, loader in zip(taken, loaders, strict=True):
            start = time.process_time()
            for _ in loader:
                pass
            if turn:
                own.append(time.process_time() - start)
    return [PICTURES / float(np.median(own)) for own in taken]


def _tiny_samples(folder: Path, count: int) -> Measured:
    """Index of many small samples, in a process of its own for the memory."""
    image = bytes(range(256)) * 2
    each = count // SHARDS
    tiny = (
        StoredSample(str(row), image, "jpg", [f"a caption of about fifty letters, number {row}"])
        for row in range(count)
    )
    patterns = [str(path) for path in write_shards(tiny, folder / "tiny", "train", per_shard=each)]
    jpeg_decoder()  # its memory is that of any loader
    source = ShardsDataset(sources={"train": patterns}, decoded=[])
    rows, split = [], None
    for what in ("the first start: index", "later starts: read the index"):
        del split  # a start has no other one's index in memory
        before, start = begin_peak(), time.process_time()
        split = source.split("train")
        rows.append([what, time.process_time() - start, peak() - before, None])
    drawn = np.random.default_rng(0).integers(count, size=READS).tolist()
    start = time.process_time()
    for row in drawn:
        split.images.data(row)  # type: ignore[attr-defined]
    taken = time.process_time() - start
    rows.append([f"{READS:,} random reads from the page cache", taken, None, READS / taken])
    return Measured(f"{count:,} samples in {SHARDS} shards", ["", "seconds of a core", "MiB more", "reads/s"], rows)
