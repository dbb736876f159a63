"""COCO's protocols from embeddings, against one bare matrix product; memory; cost against size."""

import time

import numpy as np
import torch

from benchmarks.galleries import embeddings
from benchmarks.measure import CONSOLE, MIB, Measured, alone, begin_peak, peak, seconds, turn_by_turn
from vse_gpo.evaluation.scoring import evaluate

PROTOCOLS = ["coco_5k", "coco_1k_5fold"]


def ranking(large: bool) -> list[Measured]:
    """coco_5k and coco_1k_5fold against one bare float32 matrix product; memory; cost against size."""
    images, captions = embeddings(5000, 5, 1024)
    index = np.arange(5000).repeat(5)
    rsum = evaluate(images, captions, caption_to_image=index, protocols=PROTOCOLS)["coco_5k"]["rsum"]
    bare, ours = turn_by_turn(
        [lambda: images @ captions.T, lambda: evaluate(images, captions, caption_to_image=index, protocols=PROTOCOLS)]
    )
    plain = seconds(lambda: plain_recalls(images, captions), 1)
    _, above, _ = alone(_peak_above_embeddings, 5000, 5, 1024, PROTOCOLS)
    results = [
        Measured(
            f"5,000 × 25,000 × 1,024, float32, rSum {rsum:.0f}",
            ["", "seconds", "of the bare product", "MiB above the embeddings"],
            [
                ["one bare matrix product", bare, 1.0, 5000 * 25000 * 4 / MIB],
                ["coco_5k and coco_1k_5fold", ours, ours / bare, above],
                ["whole matrix, sorted (only 5K)", plain, plain / bare, None],
            ],
        ),
        scaling(),
    ]
    if large:
        CONSOLE.print("100,000 × 500,000 takes minutes")
        own, above, taken = alone(_peak_above_embeddings, 100_000, 5, 64, ["all"])
        columns = ["", "seconds", "MiB of embeddings", "MiB above them"]
        results.append(Measured("large", columns, [["100,000 × 500,000 × 64", taken, own, above]]))
    return results


def scaling() -> Measured:
    """Cost against size, with the number of images doubled each time."""
    rows: list[list[float | None]] = []
    for count in (1000, 2000, 4000, 8000, 16000):
        images, captions = embeddings(count, 5, 256)
        index = np.arange(count).repeat(5)
        bare, taken = turn_by_turn(
            [
                lambda i=images, c=captions: [part @ c.T for part in i.split(1000)],
                lambda i=images, c=captions, n=index: evaluate(i, c, caption_to_image=n, protocols=["all"]),
            ]
        )
        growth = taken / rows[-1][1] if rows else None
        rows.append([count, taken, taken / bare, growth])
    columns = ["images", "seconds", "of the bare product", "times the half"]
    return Measured("cost against size, five captions an image, width 256", columns, rows)


def plain_recalls(images: torch.Tensor, captions: torch.Tensor) -> None:
    """Recalls as most programs compute them: the whole matrix, sorted."""
    matrix = images @ captions.T
    owners = torch.arange(len(images)).repeat_interleave(len(captions) // len(images))
    for queries, names in ((matrix, None), (matrix.T, owners)):
        for first in range(0, len(queries), 1000):
            order = queries[first : first + 1000].argsort(dim=1, descending=True)
            if names is None:
                (owners[order] == torch.arange(first, first + len(order))[:, None]).int().argmax(1)
            else:
                (order == names[first : first + len(order), None]).int().argmax(1)


def _peak_above_embeddings(images: int, per_image: int, width: int, protocols: list[str]) -> tuple[float, float, float]:
    """MiB of the embeddings, peak MiB above them, and seconds."""
    evaluate(torch.eye(3), torch.eye(3), caption_to_image=torch.arange(3), protocols=["all"])  # one-time loading
    both = embeddings(images, per_image, width)
    own = sum(part.numel() * 4 for part in both) / MIB
    before = begin_peak()
    start = time.perf_counter()
    evaluate(*both, caption_to_image=np.arange(images).repeat(per_image), protocols=protocols)
    taken = time.perf_counter() - start
    return own, peak() - before, taken
