"""What a run does when its machine is taken away: it finishes and saves the step, and the same command resumes it."""

import os
import signal
import subprocess
import sys
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Checkpoint
from pytorch_lightning.utilities.exceptions import SIGTERMException

from vse_gpo.training.callbacks.progress import is_logged
from vse_gpo.training.validation import validates_after

SIGNALS = (signal.SIGTERM, signal.SIGUSR1)


class Preemption(Checkpoint):
    """On SIGTERM or SIGUSR1, finishes the running step, writes a checkpoint and ends the run.

    A validation cannot be resumed, so the run ends after it, also if it is still to come for the step. All processes
    end after the same step, whichever of them got the signal: the next logged step, at which they ask each other. The
    exit status of the first process is 128 + the signal's number. Under SLURM, SIGUSR1 means that the job's time is
    nearly over, and the job is requeued.

    It replaces Lightning's own handlers, which save in the middle of a step or not at all, end with status 0, and
    connect the processes from inside the handler, where they may already be waiting for each other.

    As a ``Checkpoint`` it runs after the callbacks whose state it saves.

    Args:
        path: checkpoint file.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._received: int | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Set the handlers after Lightning has set its own; it restores earlier ones at the end."""
        for number in SIGNALS:
            signal.signal(number, self._receive)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        a_step = (batch_idx + 1) % trainer.accumulate_grad_batches == 0
        alone = trainer.world_size == 1  # asking the others waits for all devices
        due = (
            a_step
            and batch_idx + 1 < trainer.num_training_batches
            and not validates_after(trainer, batch_idx)
            and (alone or is_logged(trainer, trainer.global_step))
        )
        if due and self._asked_anywhere(trainer):
            self._save_and_end(trainer)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not trainer.sanity_checking and not trainer.is_last_batch and self._asked_anywhere(trainer):
            self._save_and_end(trainer)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._asked_anywhere(trainer):
            self._save_and_end(trainer)

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """End at once during a test, which has nothing to save."""

        def end(number: int, _frame: object) -> None:
            if trainer.strategy.launcher is not None:
                trainer.strategy.launcher.kill(number)
            raise SIGTERMException(128 + number if trainer.is_global_zero else 0)

        signal.signal(signal.SIGTERM, end)

    def _receive(self, number: int, frame: object) -> None:
        self._received = number

    def _asked_anywhere(self, trainer: pl.Trainer) -> bool:
        return trainer.strategy.reduce_boolean_decision(self._received is not None, all=False)

    def _save_and_end(self, trainer: pl.Trainer) -> None:
        trainer.save_checkpoint(self.path, weights_only=False)
        if not trainer.is_global_zero:
            raise SIGTERMException(0)  # a failure would get the first process killed
        number = signal.Signals(self._received or signal.SIGTERM)
        sys.stderr.write(
            f"stopped by {number.name} after step {trainer.global_step}; the same command resumes if given the same "
            f"folder, any other by resume={self.path}\n"
        )
        if number == signal.SIGUSR1 and "SLURM_JOB_ID" in os.environ:
            subprocess.run(["scontrol", "requeue", slurm_job()], check=True)  # noqa: S603, S607
        raise SIGTERMException(128 + number)


def slurm_job() -> str:
    """This job's id for ``scontrol``."""
    if "SLURM_ARRAY_JOB_ID" in os.environ:
        return f"{os.environ['SLURM_ARRAY_JOB_ID']}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    return os.environ["SLURM_JOB_ID"]
