"""Search among many images: every kind of index against a plain product with its largest values."""

import time
from collections.abc import Callable, Iterator

import numpy as np
import torch

from benchmarks.galleries import LATENT
from benchmarks.measure import MIB, Measured, alone, begin_peak, peak, turn_by_turn
from vse_gpo.search.kinds import Graph, InvertedLists, faiss, searched

TOPICS, QUERIES, TOP, BLOCK = 2000, 100, 10, 16384
KINDS = {"ivf": InvertedLists(), "hnsw": Graph()}


def search(pictures: int, width: int, index: str) -> list[Measured]:
    """Captions search images that lie in clusters: exact search, and an approximate index."""
    rows, held = alone(_measure, pictures, width, index)
    columns = ["", f"seconds for {QUERIES} queries", f"recall@{TOP}, %", "seconds to build", "MiB of the index"]
    title = f"{pictures:,} × {width:,}, float32, {faiss.omp_get_max_threads()} threads; {held:,.0f} MiB at the peak"
    return [Measured(title, columns, rows)]


def _measure(pictures: int, width: int, kind: str) -> tuple[list[list[object]], float]:
    """A row for each way to search, and the peak MiB of all of them together."""
    import_once = begin_peak()
    start = time.perf_counter()
    exact, queries = faiss.IndexFlatIP(width), np.empty((0, width), np.float32)
    for block, captions in gallery(pictures, width):
        exact.add(block)
        queries = np.concatenate([queries, captions])[-QUERIES:]
    drawn = time.perf_counter() - start
    start = time.perf_counter()
    approximate = KINDS[kind].build(exact, np.random.default_rng(0))
    built = time.perf_counter() - start
    refined = searched(exact, approximate)
    vectors = faiss.rev_swig_ptr(exact.get_xb(), pictures * width).reshape(pictures, width)
    found: dict[str, np.ndarray] = {}

    def keep(name: str, work: Callable[[], np.ndarray]) -> Callable[[], None]:
        return lambda: found.update({name: work()})

    taken = turn_by_turn(
        [
            keep("plain", lambda: nearest_by_product(queries, vectors)),
            keep("exact", lambda: exact.search(queries, TOP)[1]),
            keep("approximate", lambda: refined.search(queries, TOP)[1]),
        ]
    )
    recalls = [
        100 * float(np.mean([len({*some} & {*true}) / TOP for some, true in zip(rows, found["plain"], strict=True)]))
        for rows in found.values()
    ]
    own = pictures * width * 4 / MIB
    names = ["product and largest values", "kind=flat", f"kind={kind}, candidates ranked exactly"]
    builds = [None, drawn, built]
    sizes = [own, own, own + written_size(approximate) / MIB]  # it re-ranks candidates by exact embeddings
    return [list(row) for row in zip(names, taken, recalls, builds, sizes, strict=True)], peak() - import_once


def nearest_by_product(queries: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """Rows of the largest products, as most programs find them."""
    return (torch.from_numpy(queries) @ torch.from_numpy(vectors).T).topk(TOP).indices.numpy()


def written_size(index: faiss.Index) -> int:
    """Bytes of an index, counted without writing it anywhere."""
    sizes: list[int] = []

    def count(data: bytes) -> int:
        sizes.append(len(data))
        return len(data)

    faiss.write_index(index, faiss.PyCallbackIOWriter(count))
    return sum(sizes)


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
