"""Search among many images: every kind of index against a plain product, and what smaller embeddings would cost."""

import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.galleries import LATENT
from benchmarks.measure import MIB, Measured, alone, begin_peak, peak, turn_by_turn
from vse_gpo.search.index import Index
from vse_gpo.search.indexing import finish
from vse_gpo.search.kinds import Flat, InvertedLists, Kind
from vse_gpo.search.pictures import EmbeddedImages
from vse_gpo.search.records import record_batch
from vse_gpo.search.stored import IndexSettings, Picture
from vse_gpo.search.writer import TableWriter
from vse_gpo.storage.writing import folder_size

TOPICS, QUERIES, TOP, BLOCK = 2000, 100, 10, 16384
CANDIDATES = 100  # for a query, compared again in float32


def search(pictures: int, width: int) -> list[Measured]:
    """Captions search images that lie in clusters: exactly, by an approximate index, and by smaller embeddings."""
    rows, held = alone(_measure, pictures, width)
    forms = alone(_measure_forms, pictures, width)
    columns = ["", f"seconds for {QUERIES} queries", f"recall@{TOP}, %", "CPU seconds to build", "MiB on the disk"]
    title = f"{pictures:,} × {width:,}, float32, {torch.get_num_threads()} threads; {held:,.0f} MiB at the peak"
    form_columns = ["an embedding as", "bytes", f"recall@{TOP}, %", f"of {CANDIDATES} compared again, %"]
    return [Measured(title, columns, rows), Measured("every image compared", form_columns, forms)]


def _measure_forms(pictures: int, width: int) -> list[list[object]]:
    """What searches find that look at all images in a form of fewer bytes."""
    parts = list(gallery(pictures, width))
    vectors = torch.from_numpy(np.concatenate([block for block, _ in parts]))
    asked = torch.from_numpy(np.concatenate([captions for _, captions in parts])[-QUERIES:])
    exact = asked @ vectors.T
    worst = exact.topk(TOP).values[:, -1:] - 1e-6
    rows: list[list[object]] = []
    for name, size, scores in (
        ("float32", 4 * width, exact),
        ("float16", 2 * width, asked @ vectors.half().float().T),
        ("bytes and a scale", width + 4, asked @ in_bytes(vectors).T),
        ("bits and a scale (RaBitQ)", width // 8 + 4, by_bits(asked, vectors)),
    ):
        candidates = scores.topk(CANDIDATES).indices
        again = exact.gather(1, candidates)
        found = [100 * float((part >= worst).float().sum()) / QUERIES / TOP for part in (again[:, :TOP], again)]
        rows.append([name, size, *found])
    return rows


def in_bytes(vectors: torch.Tensor) -> torch.Tensor:
    """Each vector rounded to 255 steps of its largest number."""
    scales = vectors.abs().amax(1, keepdim=True) / 127
    return (vectors / scales).round() * scales


def by_bits(queries: torch.Tensor, vectors: torch.Tensor) -> torch.Tensor:
    """Dot products as RaBitQ (Gao and Long, SIGMOD 2024) estimates them from the signs of rotated vectors."""
    generator = torch.Generator().manual_seed(1)
    rotation = torch.linalg.qr(torch.randn(vectors.shape[1], vectors.shape[1], generator=generator)).Q
    rotated = vectors @ rotation
    return (queries @ rotation) @ rotated.sign().T / rotated.abs().sum(1)


def _measure(pictures: int, width: int) -> tuple[list[list[object]], float]:
    """A row for each way to search, and the peak MiB of all of them together."""
    import_once = begin_peak()
    with tempfile.TemporaryDirectory() as home:
        folder = Path(home)
        start = time.process_time()
        table, queries, first = TableWriter(folder), np.empty((0, width), np.float32), 0
        for block, captions in gallery(pictures, width):
            named = [Picture(f"{first + row:09}.jpg", 1, 1) for row in range(len(block))]
            table.append(record_batch(EmbeddedImages(named, torch.from_numpy(block), {})), {})
            queries, first = np.concatenate([queries, captions])[-QUERIES:], first + len(block)
        exact, built, size = finished(folder, table, Flat(), None)
        drawn = time.process_time() - start - built
        approximate, lists, both = finished(folder, table, InvertedLists(), exact)
        asked, vectors = torch.from_numpy(queries), torch.from_numpy(exact.embeddings())
        found: dict[str, list[list[float]]] = {}

        def keep(name: str, work: Callable[[], list[list[float]]]) -> Callable[[], None]:
            return lambda: found.update({name: work()})

        taken = turn_by_turn(
            [
                keep("plain", lambda: nearest_by_product(asked, vectors)),
                keep("exact", lambda: exact.search(asked, TOP)[0]),
                keep("approximate", lambda: approximate.search(asked, TOP)[0]),
            ]
        )
    worst = [line[-1] - 1e-6 for line in found["plain"]]
    recalls = [
        100 * sum(score >= least for line, least in zip(lines, worst, strict=True) for score in line) / QUERIES / TOP
        for lines in found.values()
    ]
    names = ["product and largest values", "kind=flat", "kind=ivf, candidates ranked exactly"]
    builds, sizes = [None, drawn + built, lists], [pictures * width * 4 / MIB, size, both]
    return [list(row) for row in zip(names, taken, recalls, builds, sizes, strict=True)], peak() - import_once


def nearest_by_product(queries: torch.Tensor, vectors: torch.Tensor) -> list[list[float]]:
    """The largest products, as most programs find them."""
    return (queries @ vectors.T).topk(TOP).values.tolist()


def finished(
    folder: Path, table: TableWriter, kind: Kind, former: Index | None, items: Any = None
) -> tuple[Index, float, float]:
    """An index of a table, the CPU seconds that it took and its MiB on the disk."""
    start = time.process_time()
    settings = IndexSettings(
        images="",
        model="",
        tokenizer=None,
        vocabulary=None,
        fingerprint="",
        version=1,
        items=items,
        approximate=kind.settings,
    )
    finish(folder, table, former, settings, resumed=False, random=np.random.default_rng(0))
    return Index.load(folder), time.process_time() - start, folder_size(folder) / MIB


def gallery(pictures: int, width: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Unit embeddings of images in clusters of very different sizes, and of captions close to some of the images."""
    generator = torch.Generator().manual_seed(0)
    basis = torch.linalg.qr(torch.randn(width, min(LATENT, width), generator=generator)).Q.T
    centres = torch.randn(TOPICS, len(basis), generator=generator)
    shares = 1 / torch.arange(1, TOPICS + 1)
    for first in range(0, pictures, BLOCK):
        topics = torch.multinomial(shares, min(BLOCK, pictures - first), replacement=True, generator=generator)
        latent = centres[topics] + 0.7 * torch.randn(len(topics), len(basis), generator=generator)
        captions = latent[:QUERIES] + 0.5 * torch.randn(latent[:QUERIES].shape, generator=generator)
        yield tuple(torch.nn.functional.normalize(rows @ basis, dim=1).numpy() for rows in (latent, captions))
