"""A training step hands its work to the device and never waits for it."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from timm.utils import ModelEmaV3
from torch import nn

from tests.helpers.far_device import FAR, waits_noted, waits_of_steps
from tests.helpers.tiny import WIDTH, tiny_data, tiny_module, tiny_trainer
from vse_gpo.encoder import ResidualProjection
from vse_gpo.losses import InfoNCE, SigmoidLoss
from vse_gpo.training.callbacks.averaging import AveragedWeights
from vse_gpo.training.callbacks.collapse import Collapse
from vse_gpo.training.callbacks.preemption import Preemption
from vse_gpo.training.callbacks.progress import EpochLines
from vse_gpo.training.callbacks.throughput import GradientNorm, Throughput
from vse_gpo.training.module import RetrievalModule

MODULES: dict[str, Callable[[], RetrievalModule]] = {
    "as published": partial(tiny_module, projection=ResidualProjection(WIDTH, 8)),
    "micro-batches": partial(tiny_module, micro_batch=2),
    "InfoNCE without captions of one image": partial(tiny_module, loss=InfoNCE(), mask_same_image=True),
    "sigmoid": partial(tiny_module, loss=SigmoidLoss()),
}


def callbacks(folder: Path) -> list[pl.Callback]:
    """What every run has, and the moving average."""
    collapse = Collapse(on_collapse="warn", spread=0.01, tolerance=0.05, patience=200)
    preemption = Preemption(str(folder / "last.ckpt"))
    average = AveragedWeights(average=partial(ModelEmaV3, decay=0.9), best=ModelCheckpoint(folder, every_n_epochs=100))
    return [EpochLines(), Throughput(), GradientNorm(), collapse, preemption, average]


def trainer(folder: Path, **settings: Any) -> pl.Trainer:
    """Of one epoch, whose steps no logger records."""
    return tiny_trainer(
        folder, max_epochs=1, limit_train_batches=4, limit_val_batches=0, log_every_n_steps=100, **settings
    )


@pytest.mark.parametrize("name", MODULES)
def test_no_step_waits_for_the_device(name, tmp_path):
    found = waits_of_steps(partial(trainer, tmp_path), MODULES[name](), tiny_data(), callbacks(tmp_path))
    assert found == [[]] * 3


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("name", MODULES)
def test_no_step_waits_for_a_gpu(name, tmp_path):
    class Strict(pl.Callback):
        """Makes a wait an error from the third step on; the first ones try kernels."""

        def on_train_batch_start(self, trainer: pl.Trainer, *rest: object) -> None:
            torch.cuda.set_sync_debug_mode("error" if trainer.global_step in (2, 3) else "default")

    settings = {"accelerator": "gpu", "callbacks": [Strict(), *callbacks(tmp_path)]}
    try:
        trainer(tmp_path, **settings).fit(MODULES[name](), datamodule=tiny_data())
    finally:
        torch.cuda.set_sync_debug_mode("default")


# what counts as a wait


def mask_rows(values: torch.Tensor) -> torch.Tensor:
    return values[values[:, 0] > 0]


WAITS: dict[str, Callable[[torch.Tensor], Any]] = {
    "item": lambda values: values.sum().item(),
    "condition": lambda values: 1 if values.sum() > 0 else 2,
    "tolist": lambda values: values.tolist(),
    "cpu": lambda values: values.cpu(),
    "format": lambda values: f"{values.sum():.1f}",
    "equal": lambda values: torch.equal(values, values),
    "mask": mask_rows,
    "nonzero": lambda values: values.nonzero(),
    "unique": lambda values: values.unique(),
    "copy": lambda values: torch.ones(2).to(FAR),
    "numbers": lambda values: torch.tensor([1.0, 2.0], device=values.device),
    "new numbers": lambda values: values.new_tensor(3.0),
    "index on the CPU": lambda values: values[torch.tensor([1, 0])],
}


@pytest.mark.parametrize("name", WAITS)
def test_every_kind_of_wait_is_noted(name):
    with waits_noted() as waits:
        values = torch.ones(2, 3).to(FAR, non_blocking=True)
        assert waits == []
        WAITS[name](values)
    assert len(waits) == 1
    assert "tests/training/test_waits.py" in waits[0]


def test_work_without_waits_gives_the_numbers_of_the_cpu():
    torch.manual_seed(0)
    here = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.BatchNorm1d(4))
    inputs = torch.randn(5, 3)
    with waits_noted() as waits:
        there = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.BatchNorm1d(4))
        there.load_state_dict(here.state_dict())
        there.to(FAR)
        waits.clear()
        loss = there(inputs.to(FAR, non_blocking=True)).square().sum() + torch.arange(3, device=FAR).sum()
        loss.backward()
        assert waits == []
        found = [loss.cpu(), *(parameter.grad.cpu() for parameter in there.parameters())]
    expected = here(inputs).square().sum() + 3
    expected.backward()
    assert all(
        torch.equal(one, other)
        for one, other in zip(found, [expected, *(parameter.grad for parameter in here.parameters())], strict=True)
    )


def test_tensors_of_two_devices_do_not_meet():
    with waits_noted(), pytest.raises(RuntimeError, match="expected all tensors to be on the same device"):
        torch.ones(2, device=FAR) + torch.ones(2)
