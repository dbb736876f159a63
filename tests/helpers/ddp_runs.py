"""The trainings that test_ddp compares, and one run as a user starts it: torchrun … -m tests.helpers.ddp_runs DIR."""

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytorch_lightning as pl
import torch
import torch.distributed.nn.functional
from pytorch_lightning.strategies import Strategy
from torch import Tensor, nn

from tests.helpers.dual_training import dual_data, dual_module
from tests.helpers.tiny import WIDTH, TinySource, averaged, tiny_data, tiny_module, tiny_optimization, tiny_trainer
from tests.helpers.tiny_root import tiny_root
from vse_gpo import train
from vse_gpo.cli.messages import ignore_remarks
from vse_gpo.encoder import ResidualProjection
from vse_gpo.interaction import MaxSim, ScanTextToImage
from vse_gpo.losses import InfoNCE, PhasedLoss, TripletLoss
from vse_gpo.training.callbacks.interpolation import InterpolatedWeights
from vse_gpo.training.callbacks.preemption import Preemption
from vse_gpo.training.callbacks.trial import MemoryTrial
from vse_gpo.training.ddp import PhasedDDP
from vse_gpo.training.dense_captions import DenseCaptions
from vse_gpo.training.lora import Lora
from vse_gpo.training.module import RetrievalModule
from vse_gpo.training.phases import Phases

LOSSES: dict[str, tuple[type[nn.Module], str, bool]] = {  # loss, negatives, whether captions of an image are masked
    "triplet all": (TripletLoss, "all", False),
    "triplet hardest": (TripletLoss, "hardest", False),
    "InfoNCE": (InfoNCE, "all", True),
}
DENSE = {"dense": 0.5, "distilled": 0.0}  # weight of the loss of dense captions, beside their distillation
STEPS = 3
INTERACTIONS = {"maxsim": MaxSim, "scan": ScanTextToImage}
JOINT = {"embedding": 1.0, "interaction": 0.5}


class Record(pl.Callback):
    """Every step's loss and gradients, as they were before clipping, and whether it looked for unused parameters."""

    def __init__(self) -> None:
        self.losses: list[Tensor] = []
        self.gradients: list[dict[str, Tensor]] = []
        self.searched: list[bool] = []

    def on_before_optimizer_step(self, trainer: pl.Trainer, module: pl.LightningModule, optimizer: object) -> None:
        named = module.named_parameters()
        self.gradients.append({name: value.grad.clone() for name, value in named if value.grad is not None})
        self.searched.append(getattr(trainer.strategy.model, "find_unused_parameters", False))

    def on_train_batch_end(self, trainer: pl.Trainer, module: object, outputs: object, batch: object, n: int) -> None:
        self.losses.append(trainer.callback_metrics["train/loss"].clone())


class Runs:
    """Trainings without anything random in a step that depends on the number of processes.

    Args:
        folder: for ``NAME, RANK.pt``, what a process found in a training.
        processes: their number.
    """

    def __init__(self, folder: Path, processes: int) -> None:
        self.folder = folder
        self.processes = processes
        self.rank = int(os.environ.get("RANK", "0"))

    def trainer(self, *, strategy: str | Strategy | None = None, **settings: Any) -> pl.Trainer:
        chosen = strategy or (PhasedDDP() if self.processes > 1 else "auto")
        return tiny_trainer(
            self.folder, devices=self.processes, enable_checkpointing=False, strategy=chosen, **settings
        )

    def epoch(
        self, name: str, module: RetrievalModule, strategy: Strategy | None = None, dense: str | None = None
    ) -> None:
        """An epoch of three steps."""
        record, data = Record(), tiny_data(source=TinySource(13), batch_size=8, drop_last=True, dense=dense)
        trainer = self.trainer(strategy=strategy, max_epochs=1, limit_val_batches=0, callbacks=[record])
        trainer.fit(module, datamodule=data)
        self.save(name, record, module)

    def story(self, name: str, loss: nn.Module, strategy: str | None = None, **changes: Any) -> None:
        """A frozen, a ramped and a hardest epoch, with a moving average."""
        record, average = Record(), averaged(self.folder)
        module = tiny_module(dropout=0.0, drop_regions=0.0, loss=loss, **changes)
        trial = [MemoryTrial(on_cpu=True)] if self.processes > 1 else []  # changes nothing
        trainer = self.trainer(strategy=strategy, callbacks=[*trial, record, average])
        trainer.fit(module, datamodule=tiny_data(drop_last=True))
        self.save(
            name,
            record,
            module,
            average=average.state_dict()["average"],
            metrics=dict(trainer.callback_metrics),
        )

    def fine_tuning(self) -> None:
        """From a dual encoder, its texts by adapters: a frozen, a ramped and a hardest epoch, and what is beside."""
        record, average = Record(), averaged(self.folder)
        wise = InterpolatedWeights(alphas=[0.5], path=str(self.folder / "start.ckpt"))
        steps = tiny_optimization(optimizer=torch.optim.SGD, layer_decay=0.7)
        module = dual_module(self.folder.parent / "clip", optimization=steps)
        Lora(rank=2, alpha=4.0, images=False)(module.model)
        trainer = self.trainer(callbacks=[record, average, wise])
        trainer.fit(module, datamodule=dual_data(module.model, drop_last=True))
        self.save("fine-tuning", record, module, metrics=dict(trainer.callback_metrics))

    def save(self, name: str, record: Record, module: RetrievalModule, **rest: Any) -> None:
        found = {"losses": record.losses, "gradients": record.gradients, "searched": record.searched}
        torch.save(found | {"weights": module.state_dict()} | rest, self.folder / f"{name}, {self.rank}.pt")


def one_phase(negatives: str, **changes: Any) -> RetrievalModule:
    """A module trained by SGD: unlike Adam's, its steps tell whether the gradient was clipped."""
    return tiny_module(
        dropout=0.0,
        drop_regions=0.0,
        phases=Phases([{"from_epoch": 0, "negatives": negatives}]),
        optimization=tiny_optimization(optimizer=torch.optim.SGD),
        **changes,
    )


def run_all(folder: Path, *, processes: int, micro_batches: list[int | None]) -> None:
    """Every training on this many processes."""
    folder.mkdir(exist_ok=True)
    runs = Runs(folder, processes)
    for name, (loss, negatives, mask) in LOSSES.items():
        for size in micro_batches:
            module = one_phase(negatives, loss=loss(), mask_same_image=mask, micro_batch=size)
            runs.epoch(f"{name}, {size}", module)
    for name, interaction in INTERACTIONS.items():
        for size in micro_batches:
            joint = {"interaction": interaction(), "similarity_weights": JOINT, "micro_batch": size}
            runs.epoch(f"{name}, {size}", one_phase("hardest", **joint))
    (folder / "dense.txt").write_text("\n".join(letter * 5 + "xyz" for letter in "abcdefghijklm"), encoding="utf-8")
    for name, dense_weight in DENSE.items():
        for size in micro_batches:
            dense = DenseCaptions(caption_weight=1.0, dense_weight=dense_weight, distillation_weight=0.5)
            module = one_phase("hardest", mask_same_image=True, micro_batch=size, dense=dense)
            runs.epoch(f"{name}, {size}", module, dense=str(folder / "dense.txt"))
    torch.manual_seed(3)
    runs.epoch("residual projection", one_phase("all", projection=ResidualProjection(WIDTH, 8)))
    runs.story("story", TripletLoss())
    runs.story("joint story", TripletLoss(), interaction=MaxSim(), similarity_weights=JOINT)
    phased = PhasedLoss(all_negatives=InfoNCE(), hardest_negatives=TripletLoss())
    # Adam would divide by gradients that are nearly 0, and so show their rounding, which differs between processors
    runs.story("phased loss", phased, optimization=tiny_optimization(optimizer=torch.optim.SGD))
    runs.fine_tuning()
    if processes > 1:
        runs.story("always searched", TripletLoss(), strategy="ddp_find_unused_parameters_true")
        runs.epoch("bfloat16", one_phase("all"), strategy=PhasedDDP(bf16_gradients=True))
        with patch.object(torch.distributed.nn.functional, "dist", LikeNCCL()) as nccl:
            runs.epoch("as with NCCL", one_phase("hardest"))
        assert "reduce_scatter" in nccl.asked


class LikeNCCL:
    """``torch.distributed``, but that every process group says that it is of NCCL."""

    def __init__(self) -> None:
        self.asked: set[str] = set()

    def get_backend(self, group: object = None) -> str:
        return torch.distributed.Backend.NCCL

    def __getattr__(self, name: str) -> Any:
        self.asked.add(name)
        return getattr(torch.distributed, name)


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
