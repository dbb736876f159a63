from pathlib import Path

import pytest
import pytorch_lightning as pl

from tests.helpers.tiny import save_last, tiny_data, tiny_module, tiny_trainer
from vse_gpo.training.callbacks.best import BestCheckpoint


class Worse(pl.Callback):
    """A metric that the first epoch is best by."""

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        pl_module.log("val/quality", 10.0 - trainer.current_epoch)


def fit(folder: Path, epochs: int, resume: Path | None = None) -> BestCheckpoint:
    best = BestCheckpoint(
        dirpath=folder, filename="best", monitor="val/quality", mode="max", save_on_train_epoch_end=True
    )
    trainer = tiny_trainer(folder, callbacks=[Worse(), best, save_last(folder)], max_epochs=epochs)
    trainer.fit(tiny_module(), datamodule=tiny_data(), ckpt_path=resume, weights_only=True)
    return best


def test_the_best_epoch_comes_along_into_another_folder(tmp_path):
    fit(tmp_path / "first", 2)
    best = fit(tmp_path / "second", 3, resume=tmp_path / "first" / "last.ckpt")
    assert best.best_model_score == 10.0
    assert best.best_model_path == str(tmp_path / "second" / "best.ckpt")
    assert (tmp_path / "second" / "best.ckpt").read_bytes() == (tmp_path / "first" / "best.ckpt").read_bytes()


def test_a_moved_folder_keeps_its_best_epoch(tmp_path):
    fit(tmp_path / "first", 2)
    (tmp_path / "first").rename(tmp_path / "moved")
    best = fit(tmp_path / "moved", 3, resume=tmp_path / "moved" / "last.ckpt")
    assert (best.best_model_score, best.best_model_path) == (10.0, str(tmp_path / "moved" / "best.ckpt"))


def test_the_best_epoch_of_a_moved_run_comes_along_and_replaces_that_of_another(tmp_path):
    fit(tmp_path / "first", 2)
    (tmp_path / "first").rename(tmp_path / "moved")
    (tmp_path / "second").mkdir()
    (tmp_path / "second" / "best.ckpt").write_bytes(b"another run's")
    best = fit(tmp_path / "second", 3, resume=tmp_path / "moved" / "last.ckpt")
    assert best.best_model_score == 10.0
    assert (tmp_path / "second" / "best.ckpt").read_bytes() == (tmp_path / "moved" / "best.ckpt").read_bytes()


def test_the_best_epoch_is_where_it_was_written_when_the_last_one_was_moved_alone(tmp_path):
    fit(tmp_path / "first", 2)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "first" / "last.ckpt").rename(tmp_path / "elsewhere" / "last.ckpt")
    best = fit(tmp_path / "second", 3, resume=tmp_path / "elsewhere" / "last.ckpt")
    assert (best.best_model_score, best.best_model_path) == (10.0, str(tmp_path / "second" / "best.ckpt"))


@pytest.mark.parametrize("folder", ["first", "second"])
def test_a_best_epoch_that_is_gone_is_told(tmp_path, folder):
    fit(tmp_path / "first", 2)
    (tmp_path / "first" / "best.ckpt").unlink()
    with pytest.warns(UserWarning, match=r"best\.ckpt is gone, expected the best epoch so far"):
        best = fit(tmp_path / folder, 3, resume=tmp_path / "first" / "last.ckpt")
    assert best.best_model_score == 8.0
