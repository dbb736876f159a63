"""Pictures of a run: whole files in its folder, and in the dashboards that show pictures."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytorch_lightning as pl
from PIL import Image
from pytorch_lightning.loggers import Logger, TensorBoardLogger, WandbLogger


def picture_path(trainer: pl.Trainer, kind: str) -> Path:
    """Where this epoch's picture of a kind lies in the run's folder."""
    return Path(trainer.default_root_dir) / kind / f"epoch_{trainer.current_epoch:02d}.png"


def log_picture(loggers: Iterable[Logger], key: str, path: Path, step: int) -> None:
    """Hand a picture to the loggers that show pictures."""
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            logger.log_image(key, [str(path)], step)
        elif isinstance(logger, TensorBoardLogger):
            with Image.open(path) as picture:
                logger.experiment.add_image(key, np.asarray(picture.convert("RGB")), step, dataformats="HWC")
