"""What a run does when its machine is taken away: the step is finished and saved, and the same command goes on."""

import os
import signal
import subprocess
import sys
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Checkpoint
from pytorch_lightning.utilities.exceptions import SIGTERMException

from vse_gpo.training.callbacks.progress import is_logged

SIGNALS = (signal.SIGTERM, signal.SIGUSR1)


class Preemption(Checkpoint):
    """On SIGTERM or SIGUSR1 the running step is finished, a checkpoint is written and the run ends.

    Inside a validation, which cannot be gone on with, this happens at its end. All processes end after the same step,
    whichever of them got the signal: the next step that is logged, when they ask each other. The first one's exit
    status is 128 + the signal's number. Under SLURM, SIGUSR1 says that the job's time is nearly over, and the job is
    queued again.

    It takes the place of Lightning's own handlers. They save in the middle of a step or not at all, end with status 0,
    and connect the processes from inside the handler, where they may be waiting for each other already.

    Being a ``Checkpoint`` it comes after the callbacks whose state it saves.

    Args:
        path: of the checkpoint.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._received: int | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Lightning sets its handlers before, and gives back those of others at the end."""
        for number in SIGNALS:
            signal.signal(number, self._receive)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        a_step = (batch_idx + 1) % trainer.accumulate_grad_batches == 0
        alone = trainer.world_size == 1  # to ask the others is to wait for all devices
        due = (
            a_step
            and batch_idx + 1 < trainer.num_training_batches
            and (alone or is_logged(trainer, trainer.global_step))
        )
        if due and self._asked_anywhere(trainer):
            self._save_and_end(trainer)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._asked_anywhere(trainer):
            self._save_and_end(trainer)

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """A test has nothing to save."""

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
        trainer.save_checkpoint(self.path)
        if not trainer.is_global_zero:
            raise SIGTERMException(0)  # a failure would have the first process killed
        number = signal.Signals(self._received or signal.SIGTERM)
        sys.stderr.write(
            f"stopped by {number.name} after step {trainer.global_step}; the same command goes on if given the same "
            f"folder, any other by resume={self.path}\n"
        )
        if number == signal.SIGUSR1 and "SLURM_JOB_ID" in os.environ:
            subprocess.run(["scontrol", "requeue", slurm_job()], check=True)  # noqa: S603, S607
        raise SIGTERMException(128 + number)


def slurm_job() -> str:
    """The number that ``scontrol`` knows this job by."""
    if "SLURM_ARRAY_JOB_ID" in os.environ:
        return f"{os.environ['SLURM_ARRAY_JOB_ID']}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    return os.environ["SLURM_JOB_ID"]
