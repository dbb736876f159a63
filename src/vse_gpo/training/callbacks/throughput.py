"""How fast a training is and how large its gradients are, without waiting for the device in any step."""

import time
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback
from torch.nn.utils import get_total_norm
from torch.optim import Optimizer

from vse_gpo.batch import Batch
from vse_gpo.training.callbacks.progress import is_logged


class Throughput(Callback):
    """Logs ``train/pairs_per_second``: the epoch's pairs so far, of all processes, over their training time.

    Validation time does not count; waiting for the loader does. Lightning's ThroughputMonitor waits for the device
    after every step; here only the loggers do, every few steps.
    """

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.on_train_epoch_start(trainer, pl_module)  # Lightning leaves it out when a run resumes inside an epoch

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._start, self._pairs = time.monotonic(), 0

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        self._pairs += len(batch.image_index) * trainer.world_size
        if trainer.is_last_batch or is_logged(trainer, trainer.global_step):
            pl_module.log("train/pairs_per_second", self._pairs / (time.monotonic() - self._start))

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._paused = time.monotonic()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not trainer.sanity_checking:
            self._start += time.monotonic() - self._paused


class GradientNorm(Callback):
    """Logs ``train/gradient_norm``, the norm of all gradients together before clipping, at logged steps."""

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Optimizer
    ) -> None:
        if is_logged(trainer, trainer.global_step + 1):
            gradients = [parameter.grad for parameter in pl_module.parameters() if parameter.grad is not None]
            pl_module.log("train/gradient_norm", get_total_norm(gradients))
