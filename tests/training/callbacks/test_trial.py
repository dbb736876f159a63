"""Does the largest step fit? The memory that is missing is a real limit, or a layer that takes only so many pairs."""

import multiprocessing
import re
import resource
import sys
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from tests.helpers.tiny import WIDTH, TinySource, save_last, tiny_data, tiny_module, tiny_trainer, weights
from tests.helpers.tiny_root import tiny_root
from vse_gpo import train
from vse_gpo.encoder import ResidualProjection
from vse_gpo.errors import VSEError
from vse_gpo.training.callbacks.progress import EpochLines
from vse_gpo.training.callbacks.trial import MemoryTrial
from vse_gpo.training.phases import Phases

MIB = 2**20


class Roomy(nn.Module):
    """A projection with the activations of ``room`` bytes a pair, kept for the gradient."""

    def __init__(self, room: int) -> None:
        super().__init__()
        self.linear = nn.Linear(WIDTH, 8)
        self.copies = room // 4 // 3 // 8  # float32, 3 regions, 8 wide

    def forward(self, values: Tensor) -> Tensor:
        found = self.linear(values)
        return found + 0 * found.expand(self.copies, *found.shape).exp().sum(0)


class Limited(nn.Module):
    """A projection in a GPU that holds the activations of only so many pairs while the trunk trains."""

    def __init__(self, pairs: int) -> None:
        super().__init__()
        self.linear = nn.Linear(WIDTH, 8)
        self.pairs = pairs
        self.refused: list[int] = []

    def forward(self, values: Tensor) -> Tensor:
        if torch.is_grad_enabled() and values.requires_grad and len(values) > self.pairs:
            self.refused.append(len(values))
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 77.30 GiB.")
        found: Tensor = self.linear(values)
        return found


SHORT = {"max_epochs": 1, "limit_train_batches": 1, "limit_val_batches": 0}
TRAINABLE = {"phases": Phases([{"from_epoch": 0, "negatives": "all"}])}


def fitted(folder: Path, *callbacks: pl.Callback, module=None, data=None, **changes):
    """A module after a training with these callbacks."""
    module = tiny_module() if module is None else module
    trainer = tiny_trainer(folder, callbacks=[*callbacks, save_last(folder)], **changes)
    trainer.fit(module, datamodule=tiny_data() if data is None else data)
    return module


@pytest.mark.parametrize("micro_batch", [None, 2])
def test_a_run_is_the_same_bit_for_bit_with_and_without_the_trial(tmp_path, micro_batch):
    def trained(*callbacks: pl.Callback) -> dict[str, Tensor]:
        torch.manual_seed(3)
        module = tiny_module(projection=ResidualProjection(WIDTH, 8), micro_batch=micro_batch)
        return weights(
            fitted(tmp_path / str(len(callbacks)), *callbacks, module=module, data=tiny_data(drop_last=True))
        )

    found, expected = trained(MemoryTrial(on_cpu=True)), trained()
    assert all(torch.equal(value, expected[name]) for name, value in found.items())


PAIRS, ROOM = 32, 8 * MIB


def find_in(memory: int, folder: Path) -> None:
    """Find the micro-batch in a process that may take only so many bytes more, and write it down."""
    fitted(folder / "before", MemoryTrial(on_cpu=True), **SHORT)  # imports what it needs without a limit
    module = tiny_module(projection=Roomy(ROOM), micro_batch="auto", **TRAINABLE)
    data = tiny_data(source=TinySource(25), batch_size=PAIRS)
    [size] = re.findall(r"VmSize:\s+(\d+) kB", Path("/proc/self/status").read_text())
    resource.setrlimit(resource.RLIMIT_AS, (1024 * int(size) + memory, resource.RLIM_INFINITY))
    fitted(folder, MemoryTrial(), module=module, data=data, **SHORT)
    (folder / "found").write_text(str(module.micro_batch))


@pytest.mark.skipif(sys.platform != "linux", reason="the limit is Linux's")
def test_the_largest_micro_batch_that_fits_into_a_real_limit_is_found(tmp_path):
    """A pair takes ROOM forward and as much again backward: half of the batch fits only forward."""
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["tests.training.callbacks.test_trial"])
    process = processes.Process(target=find_in, args=(PAIRS * ROOM * 3 // 4, tmp_path))
    process.start()
    process.join()
    assert (process.exitcode, (tmp_path / "found").read_text()) == (0, str(PAIRS // 4))


@pytest.mark.parametrize(("limit", "expected"), [(1, 1), (3, 2), (8, None)])
def test_the_largest_half_that_fits_is_found(tmp_path, limit, expected):
    limited = Limited(limit)
    module = tiny_module(projection=limited, micro_batch="auto", **TRAINABLE)
    fitted(tmp_path, MemoryTrial(), module=module, data=tiny_data(batch_size=8), **SHORT)
    assert module.micro_batch == expected
    assert limited.refused == [size for size in (8, 4, 2) if size > limit]  # in the trial, and never again


def test_the_size_is_logged_and_a_resumed_run_keeps_it(tmp_path):
    module = tiny_module(projection=Limited(2), micro_batch="auto")
    trainer = tiny_trainer(tmp_path, callbacks=[MemoryTrial(), save_last(tmp_path)], max_epochs=2)
    trainer.fit(module, datamodule=tiny_data())
    assert trainer.callback_metrics["train/micro_batch"] == 2
    resumed = tiny_module(projection=Limited(99), micro_batch="auto")
    trainer = tiny_trainer(tmp_path, callbacks=[MemoryTrial(), save_last(tmp_path)], max_epochs=3)
    trainer.fit(resumed, datamodule=tiny_data(), ckpt_path=tmp_path / "last.ckpt", weights_only=True)
    assert (resumed.micro_batch, trainer.global_step) == (2, 18)


def test_a_batch_that_does_not_fit_is_refused_before_the_first_epoch(tmp_path, capsys):
    """The first epoch is frozen, and would fit."""
    limited = Limited(3)
    with pytest.raises(VSEError, match=r"^out of memory in a trial of the largest step \(CUDA out of memory[^\n]+auto"):
        fitted(tmp_path, MemoryTrial(on_cpu=True), EpochLines(), module=tiny_module(projection=limited))
    assert limited.refused == [4]
    assert capsys.readouterr().out == ""
    assert list(tmp_path.iterdir()) == []


def test_a_single_pair_that_does_not_fit_is_refused(tmp_path):
    with pytest.raises(VSEError, match="out of memory in a trial"):
        fitted(tmp_path, MemoryTrial(), module=tiny_module(projection=Limited(0), micro_batch="auto"))


def test_on_a_cpu_there_is_no_trial_unless_it_is_wanted(tmp_path):
    limited = Limited(0)
    fitted(tmp_path, MemoryTrial(), module=tiny_module(projection=limited), max_epochs=1)
    assert limited.refused == []


def test_a_frozen_run_is_tried_as_it_will_be(tmp_path):
    """Its only epoch is frozen: a step that would not fit while the trunk trains is never tried."""
    limited = Limited(0)
    fitted(tmp_path, MemoryTrial(on_cpu=True), module=tiny_module(projection=limited), max_epochs=1)
    assert limited.refused == []


def test_what_is_no_lack_of_memory_stays_a_bug(tmp_path):
    class Broken(nn.Module):
        def forward(self, values: Tensor) -> Tensor:
            raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes do not match"):
        fitted(tmp_path, MemoryTrial(on_cpu=True), module=tiny_module(projection=Broken()))


def test_auto_without_the_callback_is_refused(tmp_path):
    with pytest.raises(VSEError, match=r"leave callbacks\.trial in"):
        fitted(tmp_path, module=tiny_module(micro_batch="auto"))


@pytest.mark.parametrize("micro_batch", ["auto", "null"])
def test_a_command_that_runs_out_of_memory_says_so_in_one_line(tmp_path, monkeypatch, capsys, micro_batch):
    def forward(self: nn.Module, values: Tensor) -> Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 77.30 GiB.")

    monkeypatch.setattr(ResidualProjection, "forward", forward)
    here = [f"micro_batch={micro_batch}", f"hydra.run.dir={tmp_path / 'here'}"]
    monkeypatch.setattr(sys, "argv", ["vse-train", *tiny_root(tmp_path / "data"), *here])
    with pytest.raises(SystemExit) as exit:
        train.main()
    assert exit.value.code == 1
    assert re.fullmatch(
        r"error: out of memory [^\n]*Tried to allocate 77.30 GiB[^\n]* micro_batch=auto [^\n]*"
        r"trainer.precision=bf16-mixed, backbone.checkpointing=true, more devices [^\n]+\n",
        capsys.readouterr().err,
    )
