"""Progress of a run: a bar on a terminal, lines between epochs without one, and one line per epoch everywhere."""

import math
import time
from datetime import timedelta
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, RichProgressBar
from rich import get_console

from vse_gpo.errors import printable

RSUM = "val/rsum"


class Clock:
    """Tells the time that is left in a run, validation included, at the pace so far.

    Args:
        trainer: at the start of the training.
    """

    def __init__(self, trainer: pl.Trainer) -> None:
        self._start, self._first_step = time.monotonic(), trainer.global_step

    def left(self, trainer: pl.Trainer) -> timedelta | None:
        """Time left; None if the run has no end."""
        steps = float(trainer.estimated_stepping_batches) - trainer.global_step
        pace = (time.monotonic() - self._start) / max(1, trainer.global_step - self._first_step)
        return None if math.isinf(steps) else timedelta(seconds=round(pace * steps))


class Bar(RichProgressBar):
    """The epoch's batches, with loss, learning rate, best rSum and the run's time left; off without a terminal."""

    def __init__(self) -> None:
        super().__init__(refresh_rate=4)
        self._shown: dict[str, Any] = {}
        if not get_console().is_terminal:
            self.disable()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        super().on_train_start(trainer, pl_module)
        self._clock = Clock(trainer)
        self._read_at, self._shown = -math.inf, {}

    def get_metrics(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> dict[str, Any]:
        """Values shown beside the bar, in this order; up to a second old, as reading them waits for the device."""
        if trainer.is_last_batch or time.monotonic() - self._read_at >= 1:
            self._read_at, self._shown = time.monotonic(), self._read(trainer)
        return self._shown

    def _read(self, trainer: pl.Trainer) -> dict[str, Any]:
        metrics = {
            "loss": float(trainer.callback_metrics["train/loss"]),
            "lr": f"{trainer.optimizers[0].param_groups[0]['lr']:.1e}",
        }
        if (best := best_rsum(trainer)) is not None:
            metrics["best rsum"] = f"{best:.1f}"
        left = self._clock.left(trainer)
        return metrics if left is None else metrics | {"left": str(left)}


class StepLines(Callback):
    """Where there is no bar, without a terminal: a line every few steps with loss, pairs per second and time left.

    Args:
        every: steps from one line to the next; the last step of an epoch has the epoch's line.
    """

    def __init__(self, *, every: int) -> None:
        self.every = every

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._clock, self._shown = Clock(trainer), trainer.global_step

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        step = trainer.global_step
        if get_console().is_terminal or trainer.is_last_batch or step % self.every or step == self._shown:
            return
        self._shown = step  # not again for a batch whose gradient is accumulated
        left = self._clock.left(trainer)
        print_line(
            trainer,
            f"epoch {trainer.current_epoch}, step {step}: loss {float(trainer.callback_metrics['train/loss']):.3f}"
            + pairs_per_second(trainer)
            + ("" if left is None else f", {left} left"),
        )


class EpochLines(Callback):
    """Prints one line per epoch: mean loss, rSum on dev, seconds and pairs per second; readable in a log file too.

    A validation inside an epoch gets a line of its own, and the epoch's line has the rSum of its last validation.
    """

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        parameters = sum(parameter.numel() for parameter in pl_module.parameters())
        steps = f"{trainer.num_training_batches} steps an epoch on {pl_module.device}"
        print_line(trainer, f"{trainer.default_root_dir}: {parameters:,} parameters, {steps}")
        self.on_train_epoch_start(trainer, pl_module)  # Lightning leaves it out when a run resumes inside an epoch

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._start = time.monotonic()
        self._losses: list[torch.Tensor] = []
        self._validated = False  # trainer.max_steps may end a run inside an epoch

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._losses.append(trainer.callback_metrics["train/loss"])  # left on its device: reading it would wait

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.sanity_checking:
            return
        self._validated = True
        if not trainer.is_last_batch:
            print_line(trainer, f"epoch {trainer.current_epoch}, step {trainer.global_step}: {rsum_on_dev(trainer)}")

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        print_line(
            trainer,
            f"epoch {trainer.current_epoch}: loss {torch.stack(self._losses).mean():.3f}, "
            + (rsum_on_dev(trainer) if self._validated else "not validated")
            + f", {time.monotonic() - self._start:.0f} s"
            + pairs_per_second(trainer),
        )


def pairs_per_second(trainer: pl.Trainer) -> str:
    """The pace for the end of a line; empty if it is switched off."""
    pace = trainer.callback_metrics.get("train/pairs_per_second")
    return "" if pace is None else f", {pace:.0f} pairs/s"


def rsum_on_dev(trainer: pl.Trainer) -> str:
    """rSum of the last validation, also of what is evaluated beside the model, and the best so far, for a line.

    The best is that of the metric that chooses the checkpoint, which is named if it is another one.
    """
    metrics = trainer.callback_metrics
    monitored = getattr(trainer.checkpoint_callback, "monitor", None) or RSUM
    found = [f"val rsum {metrics[RSUM]:.1f}"]
    for name, value in metrics.items():
        if name != RSUM and name.startswith("val/") and name.endswith("/rsum"):
            found.append(f"{name.removeprefix('val/').removesuffix('/rsum')} {value:.1f}")
    last, before = float(metrics[monitored]), best_rsum(trainer)
    better = min if getattr(trainer.checkpoint_callback, "mode", "max") == "min" else max
    best = last if before is None else better(last, before)
    return f"{', '.join(found)} (best {best:.1f}{'' if monitored == RSUM else f' of {monitored}'})"


def best_rsum(trainer: pl.Trainer) -> float | None:
    """Best rSum on dev of the validations that were saved so far; None before the first."""
    score = getattr(trainer.checkpoint_callback, "best_model_score", None)
    return None if score is None else float(score)


def is_logged(trainer: pl.Trainer, step: int) -> bool:
    """Whether the loggers record the step that ends with this number; they wait for the device anyway."""
    interval: int = trainer.log_every_n_steps  # type: ignore[attr-defined]
    return interval > 0 and step % interval == 0


def print_line(trainer: pl.Trainer, line: str) -> None:
    """Print a line on the console, above the bar if there is one, only from the first process."""
    if trainer.is_global_zero:
        get_console().print(printable(line), soft_wrap=True, markup=False, highlight=False)
