"""The checkpoint to resume from."""

import time
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import ModelCheckpoint

from vse_gpo.training.callbacks.progress import is_logged
from vse_gpo.training.validation import validates_after


class LastCheckpoint(ModelCheckpoint):
    """Saves at every epoch's end, after every validation inside an epoch and, where asked, every few minutes.

    Lightning's callback does only the first of these when it is told to save at every epoch's end.

    Args:
        dirpath: folder of the checkpoint.
        filename: its name, without ``.ckpt``.
        every_minutes: time after which the run is also saved, at the next step that the loggers record; None leaves it
            at epochs and validations.
    """

    def __init__(self, *, dirpath: str, filename: str, every_minutes: float | None = None) -> None:
        super().__init__(dirpath=dirpath, filename=filename, save_on_train_epoch_end=True, enable_version_counter=False)
        self.every_minutes = every_minutes

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        super().on_train_start(trainer, pl_module)
        self._saved = time.monotonic()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
        if self.every_minutes is None or not is_logged(trainer, trainer.global_step):  # asking waits for the device
            return
        a_step = (batch_idx + 1) % trainer.accumulate_grad_batches == 0
        if a_step and not trainer.is_last_batch and not validates_after(trainer, batch_idx):
            late = time.monotonic() - self._saved >= 60 * self.every_minutes
            if trainer.strategy.broadcast(late):  # the first process's clock counts
                self.on_train_epoch_end(trainer, pl_module)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not trainer.is_last_batch:  # after which the epoch ends
            self.on_train_epoch_end(trainer, pl_module)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        super().on_train_epoch_end(trainer, pl_module)
        self._saved = time.monotonic()
