"""Protocols over COCO's further annotations."""

import time
import warnings

import numpy as np
import torch

from benchmarks.galleries import embeddings
from benchmarks.measure import Measured, seconds
from vse_gpo.retrieval.annotations import CocoRows, eccv_folder, read_crisscrossed, read_positives
from vse_gpo.retrieval.crisscrossed import CrisscrossedCorrelation, CrisscrossedRecalls
from vse_gpo.retrieval.eccv import ListedPositives, eccv_scores
from vse_gpo.retrieval.protocols import Gallery, run_protocols
from vse_gpo.retrieval.recalls import Outcome
from vse_gpo.retrieval.similarity import similarities


def annotated(cxc: str) -> list[Measured]:
    """cxc, cxc_correlation and eccv over COCO ids, and the package eccv-caption for the protocols that it has."""
    folder = eccv_folder()
    caption_ids = np.load(folder / "coco_test_ids.npy", allow_pickle=False)
    owner = {caption: image for image, caption in read_positives(folder, "original")[0]}
    owners = [owner[int(caption)] for caption in caption_ids]
    image_ids = list(dict.fromkeys(owners))
    row = {image: place for place, image in enumerate(image_ids)}
    index = np.array([row[image] for image in owners])
    images, captions = embeddings(5000, 5, 1024)
    rows = CocoRows([str(one) for one in image_ids], [str(one) for one in caption_ids])
    crossed = read_crisscrossed(cxc)
    known = {
        "cxc": CrisscrossedRecalls(crossed, rows),
        "cxc_correlation": CrisscrossedCorrelation(crossed, rows),
        "eccv": ListedPositives(*read_positives(folder, "eccv"), rows, eccv_scores, "eccv"),
    }
    measured: list[list[str | float]] = [
        ["one bare product, images by captions", seconds(lambda: images @ captions.T, 1)]
    ]

    def run(*names: str) -> dict[str, Outcome]:
        gallery = Gallery(similarities=similarities(images, captions), caption_to_image=index)
        return run_protocols(gallery, names, known)

    for name, outcome in run(*known).items():
        queries = ", ".join(f"{one.direction} {len(one.rows):,}" for one in outcome.queries)
        measured.append([f"{name} ({queries})" if queries else name, seconds(lambda name=name: run(name))])
    measured.append(["together", seconds(lambda: run(*known))])
    start = time.perf_counter()
    with_package(images, captions, np.array(image_ids), caption_ids)
    measured.append(["eccv-caption: ranked lists, cxc (i2t, t2i) and eccv", time.perf_counter() - start])
    return [Measured("5,000 × 25,000 × 1,024, annotated", ["", "seconds"], measured)]


def with_package(images: torch.Tensor, captions: torch.Tensor, image_ids: np.ndarray, caption_ids: np.ndarray) -> None:
    """The same by the package eccv-caption, from the full ranked lists that it requires."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from eccv_caption import Metrics  # noqa: PLC0415, warns as it is imported
    matrix = images @ captions.T
    lists = []
    for queries, names, gallery in ((matrix, image_ids, caption_ids), (matrix.T, caption_ids, image_ids)):
        ranked = {}
        for first in range(0, len(queries), 1000):
            order = queries[first : first + 1000].argsort(dim=1, descending=True).numpy()
            ranked |= dict(zip(names[first : first + 1000].tolist(), gallery[order].tolist(), strict=True))
        lists.append(ranked)
    Metrics().compute_all_metrics(
        *lists, target_metrics=("cxc_recalls", "eccv_r1", "eccv_map_at_r", "eccv_rprecision"), Ks=(1, 5, 10)
    )
