"""What a run was made of and what it made, as artifacts of Weights & Biases."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import wandb
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.loggers import WandbLogger

from vse_gpo.errors import VSEError


class Lineage(Callback):
    """Names the data set as an input of the W&B run, and links the best checkpoint to a registered model at the end.

    The artifact of the data set holds its captions and the ids of its images: two runs have the same version of it if
    these are the same. Images and features stay where they are.

    Args:
        data: name of the data set's artifact.
        root: folder of the data set; None if it has none.
        splits: those that the run reads.
        registered: name of the registered model; None links no model.
    """

    def __init__(self, *, data: str, root: str | None, splits: Sequence[str], registered: str | None = None) -> None:
        self.data = data
        self.root = root
        self.splits = splits
        self.registered = registered

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Refuse a run that W&B would not tell of.

        Raises:
            VSEError: if there is no W&B logger, or it is offline, where W&B has no artifacts to use or to link.
        """
        if not trainer.is_global_zero:
            return
        runs = list(wandb_runs(trainer))
        if not runs or any(run.offline for run in runs):
            found = "logger.wandb.offline=true" if runs else "no W&B logger"
            raise VSEError(f"callbacks.lineage with {found}, expected logger=wandb with W&B online")

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        for run in wandb_runs(trainer):
            run.use_artifact(data_artifact(self.data, self.root, self.splits))

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        best = getattr(trainer.checkpoint_callback, "best_model_path", "")
        if self.registered is None or not best:
            return
        for run in wandb_runs(trainer):
            run.link_model(path=best, registered_model_name=self.registered, name=f"model-{run.id}")


def wandb_runs(trainer: pl.Trainer) -> Iterator[Any]:
    """The W&B runs of a trainer, in its first process."""
    if trainer.is_global_zero:
        yield from (logger.experiment for logger in trainer.loggers if isinstance(logger, WandbLogger))


def data_artifact(name: str, root: str | None, splits: Sequence[str]) -> wandb.Artifact:
    """The data set as an artifact that is not logged yet.

    Args:
        name: of the artifact.
        root: folder of the data set; None if it has none.
        splits: whose text files it holds.
    """
    artifact = wandb.Artifact(name, type="dataset", metadata={"root": root, "splits": list(splits)})
    for split in splits if root is not None else ():
        for kind in ("caps", "ids"):
            path = Path(str(root)).expanduser() / "precomp" / f"{split}_{kind}.txt"
            if path.is_file():
                artifact.add_file(str(path), name=path.name)
    return artifact
