"""A moving average of the weights, evaluated beside the trained ones."""

from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, ModelCheckpoint
from timm.utils.model_ema import ModelEmaV3
from torch import nn

from vse_gpo.checkpoints.pickles import model_weights, read_pickle
from vse_gpo.gru import gather_weights
from vse_gpo.training.module import RetrievalModule

NAME = "ema"  # in the metrics: val/ema/rsum beside val/rsum


class AveragedWeights(Callback):
    """Averages the model after every optimizer step; the average is evaluated wherever the model is.

    Parameters and running statistics of BatchNorm are averaged; counters are copied. The trained weights are not
    affected. Each process keeps its own average; parameters are identical, so nothing is communicated.

    The average of its best validation is saved as a checkpoint, which can be evaluated but not resumed from.
    Checkpoints to resume from hold the average beside the trained weights. The test reports both, each at its own best.

    Args:
        average: model → its moving average.
        best: keeps the best average after each validation; weights only.
    """

    def __init__(self, *, average: Callable[[nn.Module], ModelEmaV3], best: ModelCheckpoint) -> None:
        self.average = average
        self.best = best
        self._average: Any = None  # exists once the model is on its device
        self._restored: dict[str, torch.Tensor] | None = None
        self._step = 0  # step of the last update

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        self.best.setup(trainer, pl_module, stage)

    def on_fit_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self._begin(pl_module)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step > self._step:  # not after a batch whose gradient is accumulated
            self._average.update(pl_module.model, step=trainer.global_step)
            self._step = trainer.global_step

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Let ``best`` save the average if it is the best so far."""
        trained, pl_module.model = pl_module.model, self._average.module
        try:
            self.best.on_validation_end(trainer, pl_module)
        finally:
            pl_module.model = trained

    def on_test_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self._begin(pl_module)
        if self.best.best_model_path:
            best = read_pickle(self.best.best_model_path, [])
            self._average.module.load_state_dict(model_weights(best["state_dict"]))

    def state_dict(self) -> dict[str, Any]:
        return {"step": self._step, "average": self._average.module.state_dict(), "best": self.best.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._step, self._restored = state_dict["step"], state_dict["average"]
        self.best.load_state_dict(state_dict["best"])

    def _begin(self, module: RetrievalModule) -> None:
        """Start from the average of the loaded checkpoint, or else from the current weights."""
        if self._average is None:
            self._average = self.average(module.model).requires_grad_(False)
            gather_weights(self._average)
            module.evaluate_beside(NAME, self._average.module)
        if self._restored is not None:
            self._average.module.load_state_dict(self._restored)
            self._restored = None
