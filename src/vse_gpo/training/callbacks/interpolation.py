"""Weights between those that a run started from and the trained ones, evaluated beside these (WiSE-FT)."""

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback
from torch import Tensor

from vse_gpo.checkpoints.interpolation import check_alpha, interpolated_weights
from vse_gpo.checkpoints.pickles import model_weights, read_pickle
from vse_gpo.errors import VSEError
from vse_gpo.gru import gather_weights
from vse_gpo.model import VSE
from vse_gpo.storage.adapters import drop_adapters, merged_weights
from vse_gpo.training.callbacks.best import bring, checkpoint_beside
from vse_gpo.training.module import RetrievalModule


class InterpolatedWeights(Callback):
    """Evaluates (1 − alpha) · start + alpha · trained wherever the model is evaluated, as ``val/wise_ALPHA/…``.

    Training does not notice it. The weights at the start are kept in a checkpoint of their own, which can be evaluated
    but not resumed from; a run that resumes takes it from beside the checkpoint that it resumes from. Each alpha takes
    the memory of a model and the time of an evaluation; the start lies in the computer's memory.

    Args:
        alphas: shares of the trained weights, 0 to 1.
        path: of the checkpoint of the start.

    Raises:
        VSEError: if a share is not between 0 and 1, or occurs twice.
    """

    def __init__(self, *, alphas: Sequence[float], path: str) -> None:
        for alpha in alphas:
            check_alpha(alpha)
        if len(set(alphas)) < len(alphas):
            raise VSEError(f"callbacks.wise.alphas: {', '.join(map(str, alphas))}, expected each share once")
        self.alphas = list(alphas)
        self.path = Path(path)
        self._start: dict[str, Tensor] = {}
        self._models: dict[float, VSE] = {}  # exist once the model is on its device

    def on_fit_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self._begin(trainer, pl_module)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self._interpolate(pl_module)

    def on_test_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self._begin(trainer, pl_module)
        self._interpolate(pl_module)

    def _begin(self, trainer: pl.Trainer, module: RetrievalModule) -> None:
        if self._models:
            return
        self._start = self._weights_at_start(trainer, module)
        for alpha in self.alphas:
            beside = copy.deepcopy(module.model).requires_grad_(False).eval()
            drop_adapters(beside)
            gather_weights(beside)
            module.evaluate_beside(f"wise_{alpha:g}", beside)
            self._models[alpha] = beside

    def _weights_at_start(self, trainer: pl.Trainer, module: RetrievalModule) -> dict[str, Tensor]:
        """A new run keeps the weights of now; another one reads those that it has kept."""
        if trainer.ckpt_path is None:
            trainer.save_checkpoint(self.path, weights_only=True)
            return {
                name: value.to("cpu", copy=True) for name, value in merged_weights(module.model.state_dict()).items()
            }
        folder = Path(trainer.ckpt_path).parent
        file = checkpoint_beside(self.path.name, folder)
        if file is None:
            raise VSEError(
                f"{folder}: no {self.path.name}, expected the weights that the run started from, which it keeps if "
                "callbacks.wise is there from its start; leave it out"
            )
        bring(Path(file), self.path)
        return merged_weights(model_weights(read_pickle(file, [])["state_dict"]))

    def _interpolate(self, module: RetrievalModule) -> None:
        trained = merged_weights(module.model.state_dict())
        for alpha, model in self._models.items():
            model.load_state_dict(interpolated_weights(self._start, trained, alpha))
