"""The picture of what a pooling has learned."""

from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from PIL import Image
from pytorch_lightning.callbacks import Callback

from tests.helpers.tiny import tiny_data, tiny_module, tiny_trainer, weights
from vse_gpo.errors import VSEError
from vse_gpo.pooling import GPO, Max, Mean
from vse_gpo.training.callbacks.pooling_curves import PoolingCurves, draw_curves, model_curves


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


def test_the_curves_are_the_coefficients_of_each_size():
    model = tiny_module().model
    panels = model_curves(model, image_sizes=[3, 7], text_sizes=[5])
    assert {name: [*curves] for name, curves in panels.items()} == {"images": [3, 7], "captions": [5]}
    for curves, pooling in zip(panels.values(), (model.image_encoder.pooling, model.text_encoder.pooling), strict=True):
        for size, curve in curves.items():
            torch.testing.assert_close(curve, pooling.coefficients(torch.tensor([size]))[0].detach())


@pytest.mark.parametrize(("pooling", "panels"), [(GPO(8, 4), ["images", "captions"]), (Max(), ["images"])])
def test_poolings_without_coefficients_are_left_out(pooling, panels):
    model = tiny_module().model
    model.text_encoder.pooling = pooling
    assert [*model_curves(model, image_sizes=[2], text_sizes=[2])] == panels


def test_a_modality_without_sizes_is_left_out():
    assert [*model_curves(tiny_module().model, image_sizes=[], text_sizes=[2])] == ["captions"]


def test_an_empty_set_has_no_curve():
    with pytest.raises(VSEError, match="sets of 0 items, expected sizes of at least 1"):
        PoolingCurves(image_sizes=[3, 0], text_sizes=[])


def test_a_model_without_coefficients_leaves_no_picture(tmp_path):
    module = tiny_module()
    module.model.image_encoder.pooling = module.model.text_encoder.pooling = Mean()
    tiny_trainer(tmp_path, max_epochs=1, callbacks=[curves_callback()]).fit(module, datamodule=tiny_data())
    assert not (tmp_path / "pooling").exists()


def test_a_panel_has_one_labelled_line_per_size():
    curves = {3: torch.tensor([0.5, 0.3, 0.2]), 2: torch.tensor([0.6, 0.4])}
    [panel] = draw_curves({"images": curves}).axes
    lines = {line.get_label(): line for line in panel.lines if not line.get_label().startswith("_")}
    assert [*lines] == ["2", "3"]
    for size, curve in curves.items():
        assert lines[str(size)].get_xdata().tolist() == list(range(1, size + 1))
        assert lines[str(size)].get_ydata().tolist() == pytest.approx(curve.tolist())
    assert (panel.get_xlabel(), panel.get_ylabel()) == ("rank, largest value first", "coefficient")
    legend = panel.get_legend()
    assert legend.get_title().get_text() == "images, set size"
    assert [text.get_text() for text in legend.get_texts()] == ["2", "3"]
