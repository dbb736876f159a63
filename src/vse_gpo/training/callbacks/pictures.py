"""Figures of a run: files in its folder, also logged to the dashboards that show images."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytorch_lightning as pl
from PIL import Image
from pytorch_lightning.loggers import Logger, TensorBoardLogger, WandbLogger

from vse_gpo.training.validation import validates_inside_epochs


def picture_path(trainer: pl.Trainer, kind: str) -> Path:
    """Path of this validation's figure of a kind in the run's folder: ``epoch_NN.png``, with the step inside epochs."""
    step = f"_step_{trainer.global_step:06d}" if validates_inside_epochs(trainer) else ""
    return Path(trainer.default_root_dir) / kind / f"epoch_{trainer.current_epoch:02d}{step}.png"


def log_picture(loggers: Iterable[Logger], key: str, path: Path, step: int) -> None:
    """Log a figure to the loggers that show images."""
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            logger.log_image(key, [str(path)], step)
        elif isinstance(logger, TensorBoardLogger):
            with Image.open(path) as picture:
                logger.experiment.add_image(key, np.asarray(picture.convert("RGB")), step, dataformats="HWC")
