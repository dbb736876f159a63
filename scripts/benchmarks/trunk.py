"""A convolutional trunk on a CPU: freed memory of its feature maps is kept, as by the commands, or returned."""

import resource
import time

import torch

from benchmarks.measure import Measured, alone, begin_peak, peak
from vse_gpo.backbones.timm_trunks import timm_grid
from vse_gpo.cli.allocator import keep_freed_memory

NAME, SIZE = "tf_efficientnet_lite0", 224
BATCHES = (16, 64)
STEPS = 3


def trunk() -> list[Measured]:
    """Each case in a separate process; the limit is the computing time of the process, without the system's time."""
    columns = ["memory", "ms per image", "of them the system's", "peak, MiB"]
    measured = []
    for batch in BATCHES:
        rows: list[list[object]] = []
        for training, work in ((False, "features"), (True, "training")):
            for kept, memory in ((False, "given back"), (True, "kept")):
                rows.append([f"{work}: {memory}", *alone(_measure, batch, training, kept)])
        measured.append(Measured(f"{NAME}, {batch} images of {SIZE}×{SIZE}, on a CPU", columns, rows))
    return measured


def _measure(batch: int, training: bool, kept: bool) -> tuple[float, float, float]:
    """Milliseconds per image, those of them in the system, and peak MiB."""
    if kept:
        keep_freed_memory()
    torch.manual_seed(0)
    grid = timm_grid(NAME, pretrained=False).train(training)
    pixels = torch.randint(256, (batch, 3, SIZE, SIZE), dtype=torch.uint8)

    def step() -> None:
        with torch.set_grad_enabled(training):
            values = grid(pixels).values
        if training:
            values.sum().backward()

    step()  # one-time allocation, such as the first pages
    begin_peak()
    start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF).ru_stime
    for _ in range(STEPS):
        step()
    pictures = STEPS * batch
    taken, of_system = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF).ru_stime - before
    return 1000 * taken / pictures, 1000 * of_system / pictures, peak()
