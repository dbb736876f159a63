from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch

from tests.helpers.tiny import save_last, tiny_data, tiny_module, tiny_trainer
from vse_gpo.errors import VSEError
from vse_gpo.training.callbacks.best import BestCheckpoint


class Worse(pl.Callback):
    """A metric that the first epoch is best by."""

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        pl_module.log("val/quality", 10.0 - trainer.current_epoch)


def fit(folder: Path, epochs: int, resume: Path | None = None) -> BestCheckpoint:
    best = BestCheckpoint(
        dirpath=folder, filename="best", monitor="val/quality", mode="max", save_on_train_epoch_end=False
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


def test_a_checkpoint_brings_no_file_but_a_checkpoint_beside_it(tmp_path):
    """A checkpoint may come from anywhere, and its state may name any file of this machine."""
    fit(tmp_path / "first", 2)
    (tmp_path / "secret.ckpt").write_bytes(b"private")
    (tmp_path / "first" / "linked.ckpt").symlink_to(tmp_path / "secret.ckpt")
    (tmp_path / "first" / "notes.txt").write_text("private")
    saved = torch.load(tmp_path / "first" / "last.ckpt", weights_only=True)
    [state] = [value for name, value in saved["callbacks"].items() if name.startswith("BestCheckpoint")]
    for number, named in enumerate(("secret.ckpt", "first/linked.ckpt", "first/notes.txt")):
        state["best_k_models"] = {str(tmp_path / named): torch.tensor(10.0)}
        torch.save(saved, tmp_path / "first" / "changed.ckpt")
        with pytest.warns(UserWarning, match="is gone, expected the best epoch so far"):
            fit(tmp_path / f"other{number}", 3, resume=tmp_path / "first" / "changed.ckpt")
        there = [path for path in (tmp_path / f"other{number}").iterdir() if path.is_file()]
        assert Path(named).name not in {path.name for path in there}
        assert not any(b"private" in path.read_bytes() for path in there)


def test_a_best_epoch_that_is_damaged_stops_the_run(tmp_path):
    fit(tmp_path / "first", 2)
    (tmp_path / "first" / "best.ckpt").write_bytes(b"no checkpoint")
    with pytest.raises(VSEError, match=r"best\.ckpt: "):
        fit(tmp_path / "second", 3, resume=tmp_path / "first" / "last.ckpt")


@pytest.mark.parametrize("folder", ["first", "second"])
def test_a_best_epoch_that_is_gone_is_told(tmp_path, folder):
    fit(tmp_path / "first", 2)
    (tmp_path / "first" / "best.ckpt").unlink()
    with pytest.warns(UserWarning, match=r"best\.ckpt is gone, expected the best epoch so far"):
        best = fit(tmp_path / folder, 3, resume=tmp_path / "first" / "last.ckpt")
    assert best.best_model_score == 8.0
