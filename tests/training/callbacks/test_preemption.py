"""A run that its machine asks to stop ends as one that was never asked."""

import os
import signal
import stat
import sys
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch

from tests.helpers.tiny import averaged, save_last, tiny_data, tiny_module, tiny_trainer, weights
from tests.helpers.tiny_root import tiny_root
from vse_gpo import train
from vse_gpo.training.callbacks.preemption import Preemption

STEPS_PER_EPOCH = 6


class Ask(pl.Callback):
    """The signal in a step, or in the validation after it."""

    def __init__(self, step: int, *, in_validation: bool = False, number: int = signal.SIGTERM) -> None:
        self.step = step
        self.in_validation = in_validation
        self.number = number

    def on_train_batch_start(self, trainer: pl.Trainer, *rest: object) -> None:
        if trainer.global_step + 1 == self.step and not self.in_validation:
            os.kill(os.getpid(), self.number)

    def on_validation_batch_start(self, trainer: pl.Trainer, *rest: object) -> None:
        if trainer.global_step == self.step and self.in_validation:
            os.kill(os.getpid(), self.number)


def trainer_in(folder: Path, *others: pl.Callback) -> tuple[pl.Trainer, pl.Callback]:
    average = averaged(folder)
    callbacks = [save_last(folder), Preemption(str(folder / "last.ckpt")), *others, average]
    return tiny_trainer(folder, callbacks=callbacks), average


@pytest.mark.parametrize(
    ("ask", "saved_at"),
    [(Ask(9), 9), (Ask(12), 12), (Ask(12, in_validation=True), 12), (Ask(9, number=signal.SIGUSR1), 9)],
    ids=["inside an epoch", "epoch's last step", "in a validation", "SIGUSR1"],
)
def test_an_interrupted_run_ends_bit_equal_to_an_uninterrupted_one(tmp_path, capfd, ask, saved_at):
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1)}
    trainer, _ = trainer_in(tmp_path, ask)
    with pytest.raises(SystemExit) as exit:
        trainer.fit(tiny_module(), datamodule=tiny_data())
    assert exit.value.code == 128 + ask.number
    assert {number: signal.getsignal(number) for number in handlers} == handlers
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["global_step"] == saved_at
    [line] = [line for line in capfd.readouterr().err.splitlines() if line.startswith("stopped by")]
    assert line.startswith(f"stopped by {signal.Signals(ask.number).name} after step {saved_at}; ")
    assert line.endswith(f"resume={tmp_path / 'last.ckpt'}")

    module, whole = tiny_module(), tiny_module()
    resumed, average = trainer_in(tmp_path / "resumed")
    resumed.fit(module, datamodule=tiny_data(), ckpt_path=tmp_path / "last.ckpt", weights_only=True)
    uninterrupted, average_of_whole = trainer_in(tmp_path / "whole")
    uninterrupted.fit(whole, datamodule=tiny_data())
    assert resumed.global_step == uninterrupted.global_step == 3 * STEPS_PER_EPOCH
    assert all(torch.equal(value, weights(whole)[name]) for name, value in weights(module).items())
    expected = average_of_whole.state_dict()["average"]
    assert all(torch.equal(value, expected[name]) for name, value in average.state_dict()["average"].items())


@pytest.mark.parametrize(
    ("array", "job"), [({}, "12"), ({"SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "3"}, "7_3")]
)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_slurm_queues_a_job_again_whose_time_is_over(tmp_path, monkeypatch, number, array, job):
    scontrol = tmp_path / "scontrol"
    scontrol.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/asked\n')
    scontrol.chmod(scontrol.stat().st_mode | stat.S_IXUSR)
    for name, value in {"PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_JOB_ID": "12", **array}.items():
        monkeypatch.setenv(name, value)
    trainer, _ = trainer_in(tmp_path, Ask(2, number=number))
    with pytest.raises(SystemExit):
        trainer.fit(tiny_module(), datamodule=tiny_data())
    if number == signal.SIGUSR1:
        assert (tmp_path / "asked").read_text() == f"requeue {job}\n"
    else:
        assert not (tmp_path / "asked").exists()  # SLURM does so itself


def test_a_loaders_process_outlives_the_signal(tmp_path):
    class AskLoaders(pl.Callback):
        def on_train_batch_start(self, trainer: pl.Trainer, module: object, batch: object, batch_idx: int) -> None:
            if trainer.global_step == 1:
                for worker in trainer.train_dataloader._iterator._workers:
                    os.kill(worker.pid, signal.SIGTERM)

    trainer, _ = trainer_in(tmp_path, AskLoaders())
    trainer.fit(tiny_module(), datamodule=tiny_data(workers=1))
    assert trainer.global_step == 3 * STEPS_PER_EPOCH


def test_a_test_ends_at_once_and_not_as_a_success(tmp_path):
    class InTest(pl.Callback):
        def on_test_batch_start(self, *rest: object) -> None:
            os.kill(os.getpid(), signal.SIGTERM)

    trainer, _ = trainer_in(tmp_path, InTest())
    with pytest.raises(SystemExit) as exit:
        trainer.test(tiny_module(), datamodule=tiny_data(), verbose=False)
    assert exit.value.code == 128 + signal.SIGTERM


@pytest.mark.filterwarnings("error:Checkpoint directory")  # unless the command keeps it off the screen
def test_the_same_command_goes_on_in_the_same_folder(tmp_path, monkeypatch, capfd):
    ask = "+callbacks.ask={_target_: tests.training.callbacks.test_preemption.Ask, step: 4}"
    overrides = [*tiny_root(tmp_path / "data"), ask, f"hydra.run.dir={tmp_path}/run"]
    monkeypatch.setattr(sys, "argv", ["vse-train", *overrides])
    with pytest.raises(SystemExit) as exit:
        train.main()
    assert exit.value.code == 128 + signal.SIGTERM
    assert not (tmp_path / "run" / "metrics.json").exists()
    train.main()
    assert {"metrics.part0.csv", "metrics.csv", "metrics.json"} <= {path.name for path in (tmp_path / "run").iterdir()}
    last = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)
    monkeypatch.setattr(sys, "argv", ["vse-train", *overrides[:-2], f"hydra.run.dir={tmp_path}/whole"])
    train.main()
    whole = torch.load(tmp_path / "whole" / "checkpoints" / "last.ckpt", weights_only=True)
    assert all(torch.equal(value, whole["state_dict"][name]) for name, value in last["state_dict"].items())
    capfd.readouterr()
