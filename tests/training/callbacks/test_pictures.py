"""Figures go to the dashboards that show images, and to no other."""

import numpy as np
from PIL import Image
from pytorch_lightning.loggers import CSVLogger, TensorBoardLogger, WandbLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.helpers.tiny import tiny_trainer
from vse_gpo.training.callbacks.pictures import log_picture, picture_path


def test_a_figure_lies_in_the_runs_folder_by_its_kind_and_epoch(tmp_path):
    assert picture_path(tiny_trainer(tmp_path), "pooling") == tmp_path / "pooling" / "epoch_00.png"


def test_each_dashboard_that_shows_images_gets_the_figure(tmp_path, monkeypatch):
    pixels = np.random.default_rng(0).integers(256, size=(4, 6, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "epoch_00.png")
    logged = []
    monkeypatch.setattr(WandbLogger, "log_image", lambda logger, *arguments: logged.append(arguments))
    tensorboard = TensorBoardLogger(tmp_path / "events")
    loggers = [CSVLogger(tmp_path / "csv"), tensorboard, WandbLogger(offline=True, save_dir=tmp_path)]
    log_picture(loggers, "val/pooling", tmp_path / "epoch_00.png", 7)
    tensorboard.finalize("success")
    assert logged == [("val/pooling", [str(tmp_path / "epoch_00.png")], 7)]
    [image] = EventAccumulator(tensorboard.log_dir).Reload().Images("val/pooling")
    assert (image.step, image.width, image.height) == (7, 6, 4)
