"""``last.ckpt`` is always there to resume from; what it holds is tested with validations inside epochs."""

from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch

from tests.helpers.tiny import tiny_data, tiny_module, tiny_trainer
from vse_gpo.training.callbacks.last import LastCheckpoint


class Saved(LastCheckpoint):
    """Notes the step of every checkpoint that is written."""

    def _save_checkpoint(self, trainer: pl.Trainer, filepath: str) -> None:
        super()._save_checkpoint(trainer, filepath)
        saved = torch.load(Path(filepath), weights_only=True)
        steps.append((saved["epoch"], saved["global_step"]))


steps: list[tuple[int, int]] = []


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, [(0, 6), (1, 12)]),
        ({"val_check_interval": 4, "check_val_every_n_epoch": None}, [(0, 4), (0, 6), (1, 8), (1, 12)]),
        ({"check_val_every_n_epoch": 2}, [(0, 6), (1, 12)]),
        ({"limit_val_batches": 0}, [(0, 6), (1, 12)]),
    ],
)
def test_it_is_written_once_after_every_epoch_and_every_validation_inside(tmp_path, changes, expected):
    steps.clear()
    last = Saved(dirpath=tmp_path, filename="last")
    trainer = tiny_trainer(tmp_path, callbacks=[last], max_epochs=2, num_sanity_val_steps=0, **changes)
    trainer.fit(tiny_module(), datamodule=tiny_data())
    assert steps == expected
    assert [path.name for path in tmp_path.iterdir()] == ["last.ckpt"]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"log_every_n_steps": 2}, [(0, 2), (0, 4), (0, 6), (1, 8)]),  # asked at logged steps
        ({"val_check_interval": 4, "check_val_every_n_epoch": None, "log_every_n_steps": 4}, [(0, 4), (0, 6), (1, 8)]),
    ],
)
def test_it_is_written_when_its_time_has_come_too(tmp_path, changes, expected):
    steps.clear()
    last = Saved(dirpath=tmp_path, filename="last", every_minutes=0.0)
    trainer = tiny_trainer(tmp_path, callbacks=[last], max_epochs=-1, max_steps=8, **changes)
    trainer.fit(tiny_module(), datamodule=tiny_data())
    assert steps == expected


def test_before_its_time_it_is_not(tmp_path):
    steps.clear()
    last = Saved(dirpath=tmp_path, filename="last", every_minutes=60.0)
    tiny_trainer(tmp_path, callbacks=[last], max_epochs=1).fit(tiny_module(), datamodule=tiny_data())
    assert steps == [(0, 6)]
