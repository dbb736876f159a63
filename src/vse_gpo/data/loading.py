"""Batches of a data set, made in this process or by loader processes, none of which can hang a command."""

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from joblib import cpu_count
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, get_worker_info

from vse_gpo.errors import VSEError, first_line

AUTO = "auto"
MOST = 16  # loader processes that are started unasked: each holds two batches in memory
PREFETCHED = 2  # batches that a loader process holds ready
PATIENCE = 600.0  # seconds that a batch may take before its loader process counts as stuck


def loader(
    items: Dataset[Any],
    collate: Callable[[Any], Any],
    *,
    workers: int | str,
    device: torch.device,
    processes: int = 1,
    for_a_run: bool = False,
    **order: Any,
) -> DataLoader[Any]:
    """The one way to load batches.

    Args:
        items: the data set.
        collate: items → batch: a tensor, or tuples and lists that may hold tensors.
        workers: number of loader processes; 0 loads in this process, ``auto`` starts ``usable_workers``.
        device: where the batches go: for a GPU they are put into pinned memory, from which copies need not wait.
        processes: processes on this machine that load at the same time.
        for_a_run: keep the loader processes for the next epoch, and let them outlive SIGTERM, which a run survives.
        order: sampler and batch size, as ``DataLoader`` takes them.
    """
    count = usable_workers(processes) if workers == AUTO else int(workers)
    return DataLoader(
        items,
        collate_fn=SharedBatch(collate),
        num_workers=count,
        prefetch_factor=PREFETCHED if count else None,
        pin_memory=device.type == "cuda",
        persistent_workers=for_a_run and count > 0,
        worker_init_fn=outlive_sigterm if for_a_run else None,
        timeout=PATIENCE if count else 0.0,
        **order,
    )


def usable_workers(processes: int = 1) -> int:
    """As many loader processes as this process has CPUs for itself, at least 1 and at most 16.

    CPUs that it may not use (affinity, a container's quota) do not count. The others are shared evenly with the further
    processes of this machine, except by tasks of SLURM: each has its own, ``--cpus-per-task``.

    Args:
        processes: processes on this machine that load at the same time; torchrun's are known without it.
    """
    cpus = cpu_count()
    own = None if "TORCHELASTIC_RUN_ID" in os.environ else os.environ.get("SLURM_CPUS_PER_TASK")
    if own is not None and int(os.environ.get("SLURM_NTASKS", "1")) > 1:
        return max(1, min(int(own), cpus, MOST))
    sharing = max(processes, int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
    return max(1, min(cpus // sharing, MOST))


@dataclass(frozen=True)
class SharedBatch:
    """Collates a batch, in a loader process right into shared memory.

    Left to itself, the process would do so in a thread, whose errors leave the command waiting for a lost batch.
    """

    collate: Callable[[Any], Any]

    def __call__(self, items: Sequence[Any]) -> Any:
        if get_worker_info() is None:
            return self.collate(items)
        with full_memory_told():  # some collate into shared memory themselves
            batch = self.collate(items)
            share(batch)
        return batch


def share(batch: Any) -> None:
    """Move every tensor of a batch to shared memory."""
    if isinstance(batch, Tensor):
        batch.share_memory_()
    elif isinstance(batch, tuple | list):
        for part in batch:
            share(part)


@contextmanager
def full_memory_told() -> Iterator[None]:
    """Tell in one line that the shared memory is full.

    Raises:
        VSEError: in place of torch's error.
    """
    try:
        yield
    except RuntimeError as error:
        if "shared memory" not in str(error):
            raise
        raise VSEError(
            f"a batch does not fit into the shared memory of the loader processes "
            f"({first_line(error).rpartition(': ')[2]}); make /dev/shm larger (docker run --shm-size=8g, or "
            "--ipc=host), or set workers=0"
        ) from error


def outlive_sigterm(_worker: int) -> None:
    """Ignore SIGTERM, which SLURM sends to all processes of a job; the command's own process ends its loaders."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
