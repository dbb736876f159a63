"""The checkpoint of the best validation, kept when a run resumes in another folder."""

import os
import shutil
import warnings
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.utilities import rank_zero_only

from vse_gpo.checkpoints.pickles import read_pickle
from vse_gpo.storage.writing import whole_file


class BestCheckpoint(ModelCheckpoint):
    """Lightning's callback forgets the best one when a run resumes in another folder; this one copies its file there.

    It is looked for beside the checkpoint that the run resumes from, and nowhere else: a checkpoint may come from
    anywhere. Warns if it is gone: the best of the epochs to come is taken then.
    """

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        super().setup(trainer, pl_module, stage)
        self._trainer = trainer

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        folder = Path(self.dirpath or ".")
        files: dict[str, str | None] = self._trainer.strategy.broadcast(  # the first process decides
            {
                path: checkpoint_beside(Path(path).name, Path(str(self._trainer.ckpt_path)).parent)
                for path in state_dict["best_k_models"]
            }
        )
        if gone := [path for path, file in files.items() if file is None]:
            message = f"{gone[0]} is gone, expected the best epoch so far; only later epochs count"
            warnings.warn(message, stacklevel=2)
            return
        here = {path: str(folder / Path(path).name) for path in files}
        for path, file in files.items():
            bring(Path(str(file)), Path(here[path]))
        super().load_state_dict(
            state_dict
            | {
                "dirpath": self.dirpath,
                "best_k_models": {here[path]: score for path, score in state_dict["best_k_models"].items()},
                "best_model_path": here.get(state_dict["best_model_path"], ""),
                "kth_best_model_path": here.get(state_dict["kth_best_model_path"], ""),
                "last_model_path": "",
            }
        )


def checkpoint_beside(name: str, folder: Path) -> str | None:
    """Path of the checkpoint of that name in a folder; None if there is none that can be read, or only a link to it."""
    file = folder / name
    if file.suffix != ".ckpt" or file.is_symlink() or not os.access(file, os.R_OK):
        return None
    read_pickle(file, [])
    return str(file)


@rank_zero_only
def bring(file: Path, here: Path) -> None:
    """Copy a checkpoint, unless it is there already.

    Args:
        file: the checkpoint.
        here: where it should be.
    """
    if file.resolve() != here.resolve():
        with file.open("rb") as source, whole_file(here) as target:
            shutil.copyfileobj(source, target)
