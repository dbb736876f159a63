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
from vse_gpo.data.loading import loader, share
from vse_gpo.errors import VSEError


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
    batches = [*loader(Rows(), stacked, workers=workers, batch_size=4)]
    assert [batch[0][:, 0].tolist() for batch in batches] == [[0, 1, 2, 3], [4, 5]]
    assert [batch[0].is_shared() for batch in batches] == [workers > 0] * 2


def test_a_full_shared_memory_is_told_at_once(monkeypatch):
    def full(_tensor: Tensor) -> None:
        raise RuntimeError("unable to allocate shared memory(shm) for file </torch_1>: No space left on device (28)")

    monkeypatch.setattr(Tensor, "share_memory_", full)
    with pytest.raises(VSEError, match=r"of 0\.0 MiB does not fit .*\(No space left on device \(28\)\); make /dev/shm"):
        share((torch.zeros(3), [1, "name"]))
    with pytest.raises(VSEError, match="does not fit into the shared memory"):
        next(iter(loader(Rows(), stacked, workers=1, batch_size=2)))


def tell(fails: str, pipe: Connection) -> None:
    try:
        pipe.send(str([*loader(Rows(fails), stacked, workers=1, batch_size=1)]))
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
