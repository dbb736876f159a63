"""Batches of a data set, made in this process or by loader processes, none of which can hang a command."""

import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.utils.data import DataLoader, Dataset, get_worker_info

from vse_gpo.errors import VSEError, first_line

PATIENCE = 600.0  # seconds that a batch may take before its loader process counts as stuck


def loader(
    items: Dataset[Any], collate: Callable[[Any], Any], *, workers: int, for_a_run: bool = False, **order: Any
) -> DataLoader[Any]:
    """The one way to load batches.

    Args:
        items: the data set.
        collate: items → batch: a tensor, or tuples and lists that may hold tensors.
        workers: number of loader processes; 0 loads in this process.
        for_a_run: keep the loader processes for the next epoch, and let them outlive SIGTERM, which a run survives.
        order: sampler, batch size and pinning, as ``DataLoader`` takes them.
    """
    return DataLoader(
        items,
        collate_fn=SharedBatch(collate),
        num_workers=workers,
        persistent_workers=for_a_run and workers > 0,
        worker_init_fn=outlive_sigterm if for_a_run else None,
        timeout=PATIENCE if workers else 0.0,
        **order,
    )


@dataclass(frozen=True)
class SharedBatch:
    """Collates a batch, in a loader process right into shared memory.

    Left to itself, the process would do so in a thread, whose errors leave the command waiting for a lost batch.
    """

    collate: Callable[[Any], Any]

    def __call__(self, items: Sequence[Any]) -> Any:
        batch = self.collate(items)
        if get_worker_info() is not None:
            share(batch)
        return batch


def share(batch: Any) -> None:
    """Move every tensor of a batch to shared memory.

    Raises:
        VSEError: if it is full.
    """
    if isinstance(batch, Tensor):
        try:
            batch.share_memory_()
        except RuntimeError as error:
            raise VSEError(
                f"a batch of {batch.nbytes / 2**20:.1f} MiB does not fit into the shared memory of the loader "
                f"processes ({first_line(error).rpartition(': ')[2]}); make /dev/shm larger (docker run --shm-size=8g, "
                "or --ipc=host), or set workers=0"
            ) from error
    elif isinstance(batch, tuple | list):
        for part in batch:
            share(part)


def outlive_sigterm(_worker: int) -> None:
    """Ignore SIGTERM, which SLURM sends to all processes of a job; the command's own process ends its loaders."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
