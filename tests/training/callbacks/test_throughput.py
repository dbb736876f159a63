"""How fast a training is, and how large its gradients are."""

import time
from typing import Any

import pytest
import pytorch_lightning as pl
import torch

from tests.helpers.tiny import tiny_data, tiny_module, tiny_trainer, weights
from vse_gpo.training.callbacks.throughput import GradientNorm, Throughput


class Clock:
    """Stands still but for what training and validation are said to take."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


class Takes(pl.Callback):
    """Two seconds a training batch and a hundred a validation batch; keeps what was logged and the gradients."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.logged: list[dict[str, float]] = []
        self.norms: list[float] = []

    def on_train_batch_start(self, *rest: Any) -> None:
        self.clock.now += 2

    def on_validation_batch_start(self, *rest: Any) -> None:
        self.clock.now += 100

    def on_before_optimizer_step(self, trainer: pl.Trainer, module: pl.LightningModule, optimizer: object) -> None:
        gradients = [parameter.grad.flatten() for parameter in module.parameters() if parameter.grad is not None]
        self.norms.append(float(torch.cat(gradients).norm()))

    def on_train_batch_end(self, trainer: pl.Trainer, *rest: Any) -> None:
        self.logged.append({name: float(value) for name, value in trainer.callback_metrics.items()})


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> tuple[Takes, pl.LightningModule]:
    """Two epochs of 21 pairs in batches of 4, validated twice an epoch, every second step logged."""
    folder, module, clock = tmp_path_factory.mktemp("run"), tiny_module(), Clock()
    takes = Takes(clock)
    settings: dict[str, Any] = {"max_epochs": 2, "log_every_n_steps": 2, "num_sanity_val_steps": 1}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "monotonic", clock.monotonic)
        callbacks = [Throughput(), GradientNorm(), takes]
        tiny_trainer(folder, callbacks=callbacks, val_check_interval=0.5, **settings).fit(
            module, datamodule=tiny_data()
        )
    return takes, module


def test_pairs_per_second_leave_validation_out(run):
    logged = [metrics["train/pairs_per_second"] for metrics in run[0].logged if "train/pairs_per_second" in metrics]
    assert len(logged) == 12 - 1
    assert logged == pytest.approx([2, 2, 2, 2, 21 / 12, 21 / 12, 2, 2, 2, 2, 21 / 12])


def test_the_norm_is_that_of_all_gradients_before_clipping(run):
    takes, _ = run
    assert max(takes.norms) > 2.0  # so the trainer clipped
    logged = [metrics.get("train/gradient_norm") for metrics in takes.logged]
    assert logged[0] is None
    for step in (2, 4, 6, 8, 10, 12):
        assert logged[step - 1] == pytest.approx(takes.norms[step - 1], rel=1e-5)


def test_training_does_not_notice_them(run, tmp_path):
    alone = tiny_module()
    tiny_trainer(tmp_path, max_epochs=2).fit(alone, datamodule=tiny_data())
    assert all(torch.equal(value, weights(run[1])[name]) for name, value in weights(alone).items())
