"""The trainings that test_ddp compares, and one run as a user starts it: torchrun … -m tests.helpers.ddp_runs DIR."""

import os
import signal
import sys
import time
from functools import partial
from pathlib import Path

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from tests.helpers.tiny import WIDTH, TinySource, averaged, tiny_data, tiny_module, tiny_optimization, tiny_trainer
from tests.helpers.tiny_root import tiny_root
from vse_gpo import train
from vse_gpo.cli.messages import ignore_remarks
from vse_gpo.encoder import ResidualProjection
from vse_gpo.losses import InfoNCE, TripletLoss
from vse_gpo.training.callbacks.preemption import Preemption
from vse_gpo.training.callbacks.trial import MemoryTrial
from vse_gpo.training.phases import Phases

LOSSES: dict[str, tuple[type[nn.Module], str, bool]] = {  # loss, negatives, whether captions of an image are masked
    "triplet all": (TripletLoss, "all", False),
    "triplet hardest": (TripletLoss, "hardest", False),
    "InfoNCE": (InfoNCE, "all", True),
}
STEPS = 3


class Record(pl.Callback):
    """Every step's loss and gradients, as they were before clipping."""

    def __init__(self) -> None:
        self.losses: list[Tensor] = []
        self.gradients: list[dict[str, Tensor]] = []

    def on_before_optimizer_step(self, trainer: pl.Trainer, module: pl.LightningModule, optimizer: object) -> None:
        named = module.named_parameters()
        self.gradients.append({name: value.grad.clone() for name, value in named if value.grad is not None})

    def on_train_batch_end(self, trainer: pl.Trainer, module: object, outputs: object, batch: object, n: int) -> None:
        self.losses.append(trainer.callback_metrics["train/loss"].clone())


def run_all(folder: Path, *, processes: int, micro_batches: list[int | None]) -> None:
    """Every training on this many processes, without anything random in a step that depends on their number."""
    folder.mkdir(exist_ok=True)
    rank = int(os.environ.get("RANK", "0"))
    strategy, of_story = ("ddp", "ddp_find_unused_parameters_true") if processes > 1 else ("auto", "auto")
    trainer = partial(tiny_trainer, folder, devices=processes, enable_checkpointing=False, strategy=strategy)
    for name, (loss, negatives, mask) in LOSSES.items():
        for size in micro_batches:
            module = tiny_module(
                dropout=0.0,
                drop_regions=0.0,
                loss=loss(),
                phases=Phases([{"from_epoch": 0, "negatives": negatives}]),
                # unlike Adam's, steps of SGD tell whether the gradient was clipped
                optimization=tiny_optimization(optimizer=torch.optim.SGD),
                mask_same_image=mask,
                micro_batch=size,
            )
            data = tiny_data(source=TinySource(13), batch_size=8, drop_last=True)
            record = Record()
            trainer(max_epochs=1, limit_val_batches=0, callbacks=[record]).fit(module, datamodule=data)
            found = {"losses": record.losses, "gradients": record.gradients, "weights": module.state_dict()}
            torch.save(found, folder / f"{name}, {size}, {rank}.pt")

    torch.manual_seed(3)
    record = Record()
    module = tiny_module(
        dropout=0.0,
        drop_regions=0.0,
        projection=ResidualProjection(WIDTH, 8),
        phases=Phases([{"from_epoch": 0, "negatives": "all"}]),
        optimization=tiny_optimization(optimizer=torch.optim.SGD),
    )
    data = tiny_data(source=TinySource(13), batch_size=8, drop_last=True)
    trainer(max_epochs=1, limit_val_batches=0, callbacks=[record]).fit(module, datamodule=data)
    found = {"losses": record.losses, "gradients": record.gradients, "weights": module.state_dict()}
    torch.save(found, folder / f"residual projection, {rank}.pt")

    record, average, module = Record(), averaged(folder), tiny_module(dropout=0.0, drop_regions=0.0)
    trial = [MemoryTrial(on_cpu=True)] if processes > 1 else []  # changes nothing
    story = trainer(strategy=of_story, callbacks=[*trial, record, average])
    story.fit(module, datamodule=tiny_data(drop_last=True))
    found = {
        "losses": record.losses,
        "weights": module.state_dict(),
        "average": average.state_dict()["average"],
        "metrics": dict(story.callback_metrics),
    }
    torch.save(found, folder / f"story, {rank}.pt")


class LimitedSecond(nn.Module):
    """A projection that in the second process has memory for two pairs only."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(WIDTH, 8)

    def forward(self, values: Tensor) -> Tensor:
        if os.environ["RANK"] == "1" and torch.is_grad_enabled() and len(values) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        found: Tensor = self.linear(values)
        return found


def found_micro_batch(folder: Path) -> None:
    """The micro-batch that both processes find, of 8 pairs each."""
    module = tiny_module(projection=LimitedSecond(), micro_batch="auto")
    trainer = tiny_trainer(folder, devices=2, strategy="ddp_find_unused_parameters_true", callbacks=[MemoryTrial()])
    data = tiny_data(source=TinySource(13), batch_size=16)
    trainer.fit(module, datamodule=data)
    torch.save(
        {"micro_batch": module.micro_batch, "step": trainer.global_step}, folder / f"auto, {os.environ['RANK']}.pt"
    )


class AskSecond(pl.Callback):
    """Asks the second process alone to stop, in its second step."""

    def on_train_batch_start(self, trainer: pl.Trainer, *rest: object) -> None:
        if trainer.global_step == 1 and trainer.global_rank == 1:
            os.kill(os.getpid(), signal.SIGTERM)


def preempted(folder: Path) -> None:
    """A training of two processes that one of them is asked to stop."""
    preemption = Preemption(str(folder / "preempted.ckpt"))
    trainer = tiny_trainer(folder, devices=2, strategy="ddp", callbacks=[preemption, AskSecond()])
    try:
        trainer.fit(tiny_module(phases=Phases([{"from_epoch": 0, "negatives": "all"}])), datamodule=tiny_data())
    except SystemExit as exit:
        found = {"code": exit.code, "step": trainer.global_step}
        torch.save(found, folder / f"preempted, {os.environ['RANK']}.pt")


def command(folder: Path) -> None:
    """``vse-train`` in a folder, the second process a second later than the first."""
    rank = int(os.environ["RANK"])
    os.chdir(folder)
    sys.argv = ["vse-train", *tiny_root(folder / f"data{rank}"), f"dataset.root={folder}/data{rank}"]
    sys.argv += ["trainer=ddp", "trainer.devices=2", "trainer.max_epochs=1", "micro_batch=2"]
    time.sleep(1.1 * rank)
    train.main()


if __name__ == "__main__":
    ignore_remarks()
    parent = Path(sys.argv[1])
    run_all(parent / "2", processes=2, micro_batches=[None, 2])
    preempted(parent / "2")
    found_micro_batch(parent / "2")
    command(parent)
