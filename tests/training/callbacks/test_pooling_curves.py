"""The picture of what a pooling has learned."""

from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from PIL import Image
from pytorch_lightning.callbacks import Callback

from tests.helpers.tiny import tiny_data, tiny_module, tiny_trainer, weights
from vse_gpo.errors import VSEError
from vse_gpo.pooling import Mean
from vse_gpo.training.callbacks.pooling_curves import PoolingCurves


def curves_callback() -> PoolingCurves:
    return PoolingCurves(image_sizes=[2, 3], text_sizes=[1, 4])


class PicturesAtStart(Callback):
    """What the validation before a training has drawn."""

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.found = [*Path(trainer.default_root_dir).glob("pooling/*")]


def test_every_epoch_leaves_a_picture_and_the_training_as_it_was(tmp_path):
    trained, at_start = [], PicturesAtStart()
    for callbacks in ([], [curves_callback(), at_start]):
        module = tiny_module()
        trainer = tiny_trainer(tmp_path, max_epochs=2, num_sanity_val_steps=1, callbacks=callbacks)
        trainer.fit(module, datamodule=tiny_data())
        trained.append(weights(module))
    assert all(torch.equal(value, trained[1][name]) for name, value in trained[0].items())
    assert at_start.found == []
    pictures = sorted(tmp_path.glob("pooling/*"))
    assert [picture.name for picture in pictures] == ["epoch_00.png", "epoch_01.png"]
    for picture in pictures:
        with Image.open(picture) as image:
            assert (image.format, image.width) == ("PNG", 1600)


def test_an_empty_set_has_no_curve():
    with pytest.raises(VSEError, match="sets of 0 items, expected sizes of at least 1"):
        PoolingCurves(image_sizes=[3, 0], text_sizes=[])


def test_a_model_without_coefficients_leaves_no_picture(tmp_path):
    module = tiny_module()
    module.model.image_encoder.pooling = module.model.text_encoder.pooling = Mean()
    tiny_trainer(tmp_path, max_epochs=1, callbacks=[curves_callback()]).fit(module, datamodule=tiny_data())
    assert not (tmp_path / "pooling").exists()
