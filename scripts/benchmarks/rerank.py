"""Re-ranking 100 images of an index by their stored items, read from the disk: time and bytes by kind of sets."""

import tempfile
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from torch.nn.functional import normalize

from benchmarks.measure import Measured
from benchmarks.search import finished
from vse_gpo.batch import Features
from vse_gpo.interaction import MaxSim
from vse_gpo.search.items import Compaction
from vse_gpo.search.kinds import Flat
from vse_gpo.search.pictures import EmbeddedImages
from vse_gpo.search.records import record_batch
from vse_gpo.search.reranking import compare_items
from vse_gpo.search.stored import Picture
from vse_gpo.search.writer import TableWriter

IMAGES, CELLS, WORDS, WIDTH = 1000, 144, 12, 1024
FIRST, QUERIES, AT_ONCE = 100, 20, 100
KINDS = [Compaction(most, numbers) for most, numbers in ((None, "float32"), (None, "int8"), (32, "int8"), (16, "int8"))]


def rerank() -> list[Measured]:
    """Median time of a query, whose images are drawn anew each time."""
    rows = [[str(kind), *_measured(kind)] for kind in KINDS]
    columns = ["items", "bytes an image", "ms to store an image", f"ms to re-rank {FIRST}"]
    return [Measured(f"{CELLS} cells, {WORDS} words, width {WIDTH}, MaxSim", columns, rows)]


def _measured(kind: Compaction) -> tuple[int, float, float]:
    generator = torch.Generator().manual_seed(0)
    storing = 0.0
    with tempfile.TemporaryDirectory() as folder:
        table = TableWriter(Path(folder))
        for first in range(0, IMAGES, AT_ONCE):
            cells = normalize(torch.randn(AT_ONCE, CELLS, WIDTH, generator=generator), dim=2)
            named = [Picture(f"{first + row}.jpg", 1, 1) for row in range(AT_ONCE)]
            storing -= time.perf_counter()
            sets = kind(Features(cells, torch.full((AT_ONCE,), CELLS)))
            table.append(record_batch(EmbeddedImages(named, cells[:, 0], {}, sets)), {})
            storing += time.perf_counter()
        index, _, _ = finished(Path(folder), table, Flat(), None, items=asdict(kind))
        taken = []
        for _ in range(QUERIES):
            words = normalize(torch.randn(1, WORDS, WIDTH, generator=generator), dim=2)
            rows = torch.randperm(IMAGES, generator=generator)[:FIRST].tolist()
            start = time.perf_counter()
            compare_items(index, MaxSim(), Features(words, torch.tensor([WORDS])), rows)
            taken.append(time.perf_counter() - start)
    return index.table.item_bytes, 1000 * storing / IMAGES, 1000 * float(np.median(taken))
