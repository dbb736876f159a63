"""Loader processes: their batches, and the line about each way in which they fail."""

import multiprocessing
import os
import signal
import time
from multiprocessing.connection import Connection

import pytest
import torch
from torch import Tensor
from torch.utils.data import Dataset

from vse_gpo.cli.faults import fault_line
from vse_gpo.data import loading
from vse_gpo.data.loading import full_memory_told, loader, share, usable_workers
from vse_gpo.errors import VSEError

CPU = torch.device("cpu")


class Rows(Dataset[Tensor]):
    """Rows of a few numbers; the third one ends its process, or never comes, if asked to."""

    def __init__(self, fails: str = "") -> None:
        self.fails = fails

    def __len__(self) -> int:
        return 6

    def __getitem__(self, row: int) -> Tensor:
        if row == 3 and self.fails == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if row == 3 and self.fails == "stuck":
            time.sleep(3)
        return torch.full((2,), row)


def stacked(rows: list[Tensor]) -> tuple[Tensor, list[int]]:
    return torch.stack(rows), [len(rows)]


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_come_in_order(workers):
    batches = [*loader(Rows(), stacked, workers=workers, device=CPU, batch_size=4)]
    assert [batch[0][:, 0].tolist() for batch in batches] == [[0, 1, 2, 3], [4, 5]]
    assert [batch[0].is_shared() for batch in batches] == [workers > 0] * 2


def test_a_full_shared_memory_is_told_at_once(monkeypatch):
    def full(_tensor: Tensor) -> None:
        raise RuntimeError("unable to allocate shared memory(shm) for file </torch_1>: No space left on device (28)")

    monkeypatch.setattr(Tensor, "share_memory_", full)
    line = r"does not fit .*\(No space left on device \(28\)\); make /dev/shm"
    with pytest.raises(VSEError, match=line), full_memory_told():
        share((torch.zeros(3), [1, "name"]))
    with pytest.raises(VSEError, match="does not fit into the shared memory"):
        next(iter(loader(Rows(), stacked, workers=1, device=CPU, batch_size=2)))


@pytest.mark.parametrize(
    ("cpus", "processes", "environment", "expected"),
    [
        (2, 1, {}, 2),
        (64, 1, {}, 16),
        (64, 8, {}, 8),
        (64, 1, {"LOCAL_WORLD_SIZE": "8", "TORCHELASTIC_RUN_ID": "x", "SLURM_CPUS_PER_TASK": "64"}, 8),  # torchrun
        (2, 4, {}, 1),
        (12, 4, {"SLURM_CPUS_PER_TASK": "12", "SLURM_NTASKS": "4"}, 12),  # each task has its own
        (64, 4, {"SLURM_CPUS_PER_TASK": "12", "SLURM_NTASKS": "4"}, 12),  # tasks that are not bound to their CPUs
        (64, 4, {"SLURM_CPUS_PER_TASK": "64", "SLURM_NTASKS": "1"}, 16),  # Lightning starts four in one task
    ],
)
def test_processes_share_the_cpus_that_they_may_use(monkeypatch, cpus, processes, environment, expected):
    for name in ("LOCAL_WORLD_SIZE", "TORCHELASTIC_RUN_ID", "SLURM_CPUS_PER_TASK", "SLURM_NTASKS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(loading, "cpu_count", lambda: cpus)
    assert usable_workers(processes) == expected


def test_cpus_that_are_not_allowed_do_not_count():
    allowed = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(allowed)})
        assert usable_workers() == 1
        assert loader(Rows(), stacked, workers="auto", device=CPU).num_workers == 1
    finally:
        os.sched_setaffinity(0, allowed)


def test_batches_for_a_gpu_are_pinned():
    assert loader(Rows(), stacked, workers=0, device=torch.device("cuda", 1)).pin_memory
    assert not loader(Rows(), stacked, workers=0, device=CPU).pin_memory


def tell(fails: str, pipe: Connection) -> None:
    try:
        pipe.send(str([*loader(Rows(fails), stacked, workers=1, device=CPU, batch_size=1)]))
    except (RuntimeError, OSError, EOFError) as error:
        pipe.send(fault_line(error))


def line_of(fails: str) -> str:
    """The line about rows that fail, from a process of their own: torch goes on to tell of a killed one at any time."""
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe()
    process = context.Process(target=tell, args=(fails, there))
    process.start()
    line: str = here.recv()
    process.kill()
    process.join()
    return line


def test_a_killed_process_is_told():
    assert line_of("killed").startswith("a loader process was killed")


def test_a_process_that_gives_nothing_is_told(monkeypatch):
    monkeypatch.setattr(loading, "PATIENCE", 1.0)
    assert line_of("stuck").startswith("the loader processes gave no batch for 1 s; see whether the disk")
