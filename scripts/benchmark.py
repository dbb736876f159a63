"""Times and memory of ours, a plain reference and the limit, side by side in one run, as ratios.

python scripts/benchmark.py ranking            COCO's 5,000 × 25,000 at width 1,024, and cost against size
python scripts/benchmark.py ranking --large    and 100,000 × 500,000 at width 64
python scripts/benchmark.py annotated --cxc DIR    cxc, cxc_correlation and eccv; the package eccv-caption beside them
python scripts/benchmark.py memory             a training step against the batch size, at once and in micro-batches
"""

import argparse
import multiprocessing
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from vse_gpo.backbones.images import timm_grid
from vse_gpo.backbones.texts import BiGRU
from vse_gpo.batch import Batch, Tokens, take
from vse_gpo.encoder import Encoder, linear_projection
from vse_gpo.losses import TripletLoss
from vse_gpo.micro_batches import embed
from vse_gpo.model import VSE
from vse_gpo.pooling import GPO
from vse_gpo.retrieval import evaluate
from vse_gpo.retrieval.annotations import (
    CocoRows,
    eccv_folder,
    read_crisscrossed,
    read_positives,
)
from vse_gpo.retrieval.crisscrossed import CrisscrossedCorrelation, CrisscrossedRecalls
from vse_gpo.retrieval.eccv import ListedPositives, eccv_scores
from vse_gpo.retrieval.protocols import Test, run_protocols
from vse_gpo.retrieval.similarity import similarities

CONSOLE = Console()
MIB = 2**20


LATENT = 48  # dimensions that trained embeddings fill, about


def embeddings(images: int, per_image: int, width: int, noise: float = 0.75) -> tuple[torch.Tensor, torch.Tensor]:
    """Unit embeddings whose captions lie around their image, so that ranks are as a trained model has them."""
    generator = torch.Generator().manual_seed(0)
    basis = torch.linalg.qr(torch.randn(width, min(LATENT, width), generator=generator)).Q.T
    latent = torch.randn(images, len(basis), generator=generator)
    of_captions = torch.empty(images * per_image, width)
    for first in range(0, images, 5000):  # no temporary copy of all of it
        own = latent[first : first + 5000].repeat_interleave(per_image, dim=0)
        own.add_(torch.randn(own.shape, generator=generator), alpha=noise)
        rows = slice(first * per_image, first * per_image + len(own))
        of_captions[rows] = torch.nn.functional.normalize(own @ basis, dim=1)
    return torch.nn.functional.normalize(latent @ basis, dim=1), of_captions


def seconds(work: Callable[[], object], repeats: int = 3) -> float:
    """The median of some runs, after one that does not count."""
    work()
    taken = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def peak_above_embeddings(images: int, per_image: int, width: int, protocols: list[str]) -> tuple[float, float, float]:
    """MiB of the embeddings, MiB above them at the peak, and seconds, in a process of its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_measure_peak, (images, per_image, width, protocols))


def _measure_peak(images: int, per_image: int, width: int, protocols: list[str]) -> tuple[float, float, float]:
    evaluate(torch.eye(3), torch.eye(3), caption_to_image=torch.arange(3), protocols=["all"])  # what is loaded once
    both = embeddings(images, per_image, width)
    own = sum(part.numel() * 4 for part in both) / MIB
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = _peak()
    start = time.perf_counter()
    evaluate(*both, caption_to_image=np.arange(images).repeat(per_image), protocols=protocols)
    taken = time.perf_counter() - start
    return own, _peak() - before, taken


def _peak() -> float:
    """MiB of memory that this process has held at most."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


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


def ranking(large: bool) -> None:
    """coco_5k and coco_1k_5fold against one bare float32 matrix product; memory; cost against size."""
    images, captions = embeddings(5000, 5, 1024)
    index = np.arange(5000).repeat(5)
    protocols = ["coco_5k", "coco_1k_5fold"]
    rsum = evaluate(images, captions, caption_to_image=index, protocols=protocols)["coco_5k"]["rsum"]
    limit, ours = [], []
    for _ in range(3):  # turn by turn: the machine's mood is shared
        limit.append(seconds(lambda: images @ captions.T, 1))
        ours.append(seconds(lambda: evaluate(images, captions, caption_to_image=index, protocols=protocols), 1))
    bare = statistics.median(limit)
    plain = seconds(lambda: plain_recalls(images, captions), 1)
    own, above, _ = peak_above_embeddings(5000, 5, 1024, protocols)
    table = Table(title=f"5,000 × 25,000 × 1,024, float32, rSum {rsum:.0f}", title_justify="left")
    for column in ("", "seconds", "of the bare product", "MiB above the embeddings"):
        table.add_column(column, justify="left" if column == "" else "right")
    table.add_row("one bare matrix product", f"{bare:.2f}", "1.00", f"{5000 * 25000 * 4 / MIB:.0f}")
    table.add_row(
        "coco_5k and coco_1k_5fold",
        f"{statistics.median(ours):.2f}",
        f"{statistics.median(ours) / bare:.2f}",
        f"{above:.0f}",
    )
    table.add_row("whole matrix, sorted (5K alone)", f"{plain:.2f}", f"{plain / bare:.2f}", "")
    CONSOLE.print(table)
    scaling()
    if large:
        own, above, taken = peak_above_embeddings(100_000, 5, 64, ["all"])
        CONSOLE.print(
            f"100,000 × 500,000 × 64: {taken:.0f} s, {own:.0f} MiB of embeddings and {above:.0f} MiB above them"
        )


def scaling() -> None:
    """Cost against size: images doubled."""
    table = Table(title="cost against size, five captions an image, width 256", title_justify="left")
    for column in ("images", "seconds", "of the bare product", "times the half"):
        table.add_column(column, justify="right")
    before = None
    for count in (1000, 2000, 4000, 8000, 16000):
        images, captions = embeddings(count, 5, 256)
        index = np.arange(count).repeat(5)
        taken = seconds(lambda i=images, c=captions, n=index: evaluate(i, c, caption_to_image=n, protocols=["all"]))
        bare = seconds(lambda i=images, c=captions: [part @ c.T for part in i.split(1000)])
        growth = "" if before is None else f"{taken / before:.1f}"
        table.add_row(f"{count:,}", f"{taken:.2f}", f"{taken / bare:.2f}", growth)
        before = taken
    CONSOLE.print(table)


def annotated(cxc: str) -> None:
    """cxc, cxc_correlation and eccv over COCO's ids, and the package eccv-caption for its share."""
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
    table = Table(title="5,000 × 25,000 × 1,024, annotated", title_justify="left")
    for column in ("", "seconds"):
        table.add_column(column, justify="left" if column == "" else "right")
    bare = seconds(lambda: images @ captions.T, 1)
    table.add_row("one bare product, images by captions", f"{bare:.2f}")
    total = 0.0
    for name in known:
        test = Test(similarities=similarities(images, captions), caption_to_image=index)
        start = time.perf_counter()
        outcome = run_protocols(test, [name], known)[name]
        taken = time.perf_counter() - start
        total += taken
        queries = ", ".join(f"{one.direction} {len(one.rows):,}" for one in outcome.queries)
        table.add_row(f"{name} ({queries})" if queries else name, f"{taken:.2f}")
    table.add_row("together", f"{total:.2f}")
    start = time.perf_counter()
    with_package(images, captions, np.array(image_ids), caption_ids)
    table.add_row("eccv-caption: ranked lists, cxc (i2t, t2i) and eccv", f"{time.perf_counter() - start:.2f}")
    CONSOLE.print(table)


def with_package(images: torch.Tensor, captions: torch.Tensor, image_ids: np.ndarray, caption_ids: np.ndarray) -> None:
    """The same by the benchmark's own package, from full ranked lists as it asks for them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from eccv_caption import Metrics
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


MICRO_BATCH = 8


def memory() -> None:
    """Peak of one training step of ResNet-18 on 224×224 pixels and a BiGRU, in a process of its own each."""
    table = Table(title="one training step, ResNet-18 at 224×224, on a CPU", title_justify="left")
    for column in (
        "batch",
        "at once, MiB",
        "seconds",
        f"micro-batches of {MICRO_BATCH}, MiB",
        "seconds",
        "loss differs",
    ):
        table.add_column(column, justify="right")
    for pairs in (16, 32, 64):
        with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
            whole, taken, loss = pool.apply(_measure_step, (pairs, pairs))
            parts, taken_in_parts, loss_in_parts = pool.apply(_measure_step, (pairs, MICRO_BATCH))
        difference = f"{abs(loss_in_parts - loss) / loss:.0e}"
        table.add_row(str(pairs), f"{whole:,.0f}", f"{taken:.1f}", f"{parts:,.0f}", f"{taken_in_parts:.1f}", difference)
    CONSOLE.print(table)


def _measure_step(pairs: int, micro_batch: int) -> tuple[float, float, float]:
    """MiB above model, gradients and batch at the peak; seconds; the loss."""
    torch.manual_seed(0)
    model = VSE(
        image_encoder=Encoder(
            backbone=timm_grid("resnet18", width=512, pretrained=False),
            projection=linear_projection(512, 256),
            pooling=GPO(),
        ),
        text_encoder=Encoder(
            backbone=BiGRU(vocabulary_size=1000, width=256), projection=torch.nn.Identity(), pooling=GPO()
        ),
        prepare_images=torch.stack,
        prepare_captions=lambda captions: captions,
    )
    index = torch.arange(pairs)
    batch = Batch(
        torch.randint(256, (pairs, 3, 224, 224), dtype=torch.uint8),
        Tokens(torch.randint(1, 1000, (pairs, 12)), torch.full((pairs,), 12)),
        index,
        index,
    )

    def step(rows: Batch) -> float:
        images, captions = model(rows) if micro_batch == pairs else embed(model, rows, micro_batch)
        loss = TripletLoss()(images @ captions.T, hardest=False)
        loss.backward()
        return loss.item()

    step(take(batch, slice(0, 2)))  # what is loaded and made once, gradients among it
    Path("/proc/self/clear_refs").write_text("5")
    before = _peak()
    start = time.perf_counter()
    loss = step(batch)
    return _peak() - before, time.perf_counter() - start, loss


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = parser.add_subparsers(dest="kind", required=True)
    kinds.add_parser("ranking").add_argument("--large", action="store_true")
    kinds.add_parser("annotated").add_argument("--cxc", required=True)
    kinds.add_parser("memory")
    arguments = parser.parse_args()
    CONSOLE.print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, Python {sys.version.split()[0]}")
    if arguments.kind == "ranking":
        ranking(arguments.large)
    elif arguments.kind == "memory":
        memory()
    else:
        annotated(arguments.cxc)


if __name__ == "__main__":
    main()
