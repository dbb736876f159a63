"""Validation inside epochs: the best checkpoint is the best validation, and an interrupted run loses none."""

import csv
import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Checkpoint
from torch import Tensor

from tests.helpers.tiny import averaged, tiny_data, tiny_module, tiny_trainer, weights
from tests.helpers.tiny_root import tiny_root
from tests.training.callbacks.test_preemption import Ask
from vse_gpo import train
from vse_gpo.errors import VSEError
from vse_gpo.training.callbacks.best import BestCheckpoint
from vse_gpo.training.callbacks.last import LastCheckpoint
from vse_gpo.training.callbacks.preemption import Preemption
from vse_gpo.training.validation import check_validation, validates_after, validates_inside_epochs

WAYS: dict[
    str, tuple[dict[str, Any], list[int]]
] = {  # name → the trainer's settings, and the steps validated after: 6 steps an epoch, 3 epochs
    "over epochs": ({"val_check_interval": 4, "check_val_every_n_epoch": None}, [4, 8, 12, 16]),
    "in each epoch": ({"val_check_interval": 4}, [4, 10, 16]),
    "twice an epoch": ({"val_check_interval": 0.5}, [3, 6, 9, 12, 15, 18]),
    "every batch of every second epoch": ({"val_check_interval": 1, "check_val_every_n_epoch": 2}, [*range(7, 13)]),
}


class Keep(Checkpoint):
    """What a validation finds, and a copy of ``last.ckpt`` after it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.validated: list[tuple[int, float]] = []

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.validated.append((trainer.global_step, float(trainer.callback_metrics["val/rsum"])))
        if (self.folder / "last.ckpt").is_file():
            shutil.copy(self.folder / "last.ckpt", self.folder / f"after_{trainer.global_step}.ckpt")


def fitted(folder: Path, *others: pl.Callback, resume: Path | None = None, **changes: Any) -> dict[str, Any]:
    """All that a run comes to."""
    average, keep = averaged(folder), Keep(folder)
    best = BestCheckpoint(
        dirpath=folder, filename="best", monitor="val/rsum", mode="max", save_on_train_epoch_end=False
    )
    last = LastCheckpoint(dirpath=folder, filename="last")
    callbacks = [average, *others, best, last, keep, Preemption(str(folder / "last.ckpt"))]
    module = tiny_module()
    trainer = tiny_trainer(folder, callbacks=callbacks, **changes)
    found: dict[str, Any] = {"validated": keep.validated, "weights": {}, "average": {}, "best": (0, 0.0)}
    try:
        trainer.fit(module, datamodule=tiny_data(), ckpt_path=resume, weights_only=True)
    except SystemExit:
        return found
    saved = torch.load(best.best_model_path, weights_only=True)
    found["best"] = (saved["global_step"], float(best.best_model_score))
    return found | {"weights": weights(module), "average": average.state_dict()["average"]}


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    assert all(torch.equal(value, expected[name]) for name, value in found.items())


@pytest.fixture(scope="module", params=WAYS)
def whole(request, tmp_path_factory):
    """An uninterrupted run: its folder, settings, validated steps and results."""
    folder = tmp_path_factory.mktemp("whole")
    changes, steps = WAYS[request.param]
    return folder, changes, steps, fitted(folder, **changes)


def test_the_best_checkpoint_is_the_best_validation(whole):
    folder, _, steps, found = whole
    assert [step for step, _ in found["validated"]] == steps
    assert found["best"] == max(found["validated"], key=lambda one: (one[1], -one[0]))
    assert torch.load(folder / "last.ckpt", weights_only=True)["global_step"] == 18


def test_validating_more_often_changes_no_step(whole, tmp_path):
    *_, found = whole
    plain = tiny_module()
    tiny_trainer(tmp_path).fit(plain, datamodule=tiny_data())
    assert_same(found["weights"], weights(plain))


@pytest.mark.parametrize("nth", [0, 2])
def test_a_run_resumes_after_any_validation_bit_equal(whole, tmp_path, nth):
    folder, changes, steps, expected = whole
    saved = folder / f"after_{steps[nth]}.ckpt"
    shutil.copy(saved, tmp_path / "last.ckpt")
    at = torch.load(saved, weights_only=True)["global_step"]
    assert at == steps[nth] or steps[nth] % 6 == 0  # an epoch's end saves after its validation
    shutil.copy(folder / "best.ckpt", tmp_path / "best.ckpt")  # as good as that of the time: its score counts
    found = fitted(tmp_path, resume=tmp_path / "last.ckpt", **changes)
    assert_same(found["weights"], expected["weights"])
    assert_same(found["average"], expected["average"])
    assert found["validated"] == [one for one in expected["validated"] if one[0] > at]


@pytest.mark.parametrize("step", [4, 5, 8])
def test_a_run_that_is_asked_to_stop_loses_no_validation(tmp_path, capfd, step):
    """Steps 4 and 8 are validated, and the run ends after that."""
    changes, steps = WAYS["over epochs"]
    asked = fitted(tmp_path, Ask(step), **changes)
    assert f"stopped by SIGTERM after step {step}; " in capfd.readouterr().err
    found = fitted(tmp_path, resume=tmp_path / "last.ckpt", **changes)
    assert [one for one, _ in asked["validated"] + found["validated"]] == steps
    (tmp_path / "whole").mkdir()
    expected = fitted(tmp_path / "whole", **changes)
    assert found["best"] == expected["best"]
    assert_same(found["weights"], expected["weights"])
    assert_same(found["average"], expected["average"])


@pytest.mark.parametrize("way", WAYS)
def test_what_is_foreseen_is_what_lightning_does(tmp_path, way):
    foreseen: list[int] = []

    class Foresee(pl.Callback):
        def on_train_batch_end(self, trainer: pl.Trainer, module: object, out: object, batch: object, idx: int) -> None:
            foreseen.extend([trainer.global_step] * validates_after(trainer, idx))

    changes, steps = WAYS[way]
    trainer = tiny_trainer(tmp_path, callbacks=[Foresee()], enable_checkpointing=False, **changes)
    trainer.fit(tiny_module(), datamodule=tiny_data())
    assert foreseen == steps


def test_a_run_as_a_user_starts_it_names_the_validation(tmp_path, monkeypatch, capsys):
    run = tmp_path / "run"
    every = ["trainer.val_check_interval=2", "trainer.check_val_every_n_epoch=null", "trainer.max_epochs=3"]
    monkeypatch.setattr(sys, "argv", ["vse-train", *tiny_root(tmp_path / "data"), *every, f"hydra.run.dir={run}"])
    train.main()
    lines = capsys.readouterr().out.splitlines()
    rows = list(csv.DictReader((run / "metrics.csv").read_text().splitlines()))
    rsums = {int(row["step"]) + 1: float(row["val/rsum"]) for row in rows if row["val/rsum"]}  # steps count from 0
    assert [*rsums] == [2, 4, 6, 8]
    epochs = {int(row["step"]) + 1: int(row["epoch"]) for row in rows if row["val/rsum"]}
    assert epochs == {2: 0, 4: 1, 6: 1, 8: 2}

    results = json.loads((run / "metrics.json").read_text())
    best = max(rsums, key=lambda step: (rsums[step], -step))
    assert (results["best_epoch"], results["best_step"]) == (epochs[best], best)
    assert results["val/best_rsum"] == pytest.approx(rsums[best])
    assert torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)["global_step"] == best
    for kind in ("pooling", "examples"):
        expected = {f"epoch_{epochs[step]:02d}_step_{step:06d}.png" for step in rsums}
        assert {path.name for path in (run / kind).iterdir()} == expected
    shown = [line.partition(":")[0] for line in lines[1:-1] if line.startswith("epoch")]
    assert shown == ["epoch 0, step 2", "epoch 0", "epoch 1, step 4", "epoch 1", "epoch 2, step 8", "epoch 2"]
    for line, step in ((lines[1], 2), (lines[3], 4), (lines[4], 6)):
        so_far = max(value for earlier, value in rsums.items() if earlier <= step)
        assert re.search(rf"val rsum {rsums[step]:.1f} \(best {so_far:.1f}\)", line)


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (["trainer.val_check_interval=4"], r"trainer\.val_check_interval=4: an epoch has 3 batches; set [^\n]+"),
        (["trainer.val_check_interval=0"], r"trainer\.val_check_interval=0, expected a number of batches[^\n]+"),
        (["trainer.val_check_interval='00:00:01:00'"], r"trainer\.val_check_interval is a time[^\n]+"),
        (
            ["trainer.val_check_interval=7", "trainer.check_val_every_n_epoch=null"],
            r"trainer\.max_epochs=2 ends the run before its first validation, in epoch 3; set [^\n]+",
        ),
        (
            ["trainer.check_val_every_n_epoch=3"],
            r"trainer\.max_epochs=2 ends the run before its first validation, in epoch 3; set [^\n]+",
        ),
        (["trainer.check_val_every_n_epoch=0"], r"trainer\.check_val_every_n_epoch=0, expected a whole number[^\n]+"),
        (
            ["trainer.val_check_interval=0.5", "trainer.check_val_every_n_epoch=null"],
            r"trainer: `val_check_interval` should be an integer[^\n]+",
        ),
    ],
)
def test_an_interval_that_cannot_be_kept_is_one_line_and_leaves_nothing(tmp_path, monkeypatch, capsys, overrides, line):
    typed = [*tiny_root(tmp_path / "data"), *overrides, f"hydra.run.dir={tmp_path / 'here'}"]
    monkeypatch.setattr(sys, "argv", ["vse-train", *typed])
    with pytest.raises(SystemExit):
        train.main()
    assert re.fullmatch(f"error: {line}\n", capsys.readouterr().err)
    assert not (tmp_path / "here").exists()


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        (
            {"max_steps": 5},
            "max_steps=5 ends the run before its first validation, after batch 6; set trainer.val_check",
        ),
        ({"max_steps": 2, "val_check_interval": 0.5}, "max_steps=2 ends .* after batch 3"),
        ({"max_steps": 7, "check_val_every_n_epoch": 2}, "max_steps=7 ends .* after batch 12"),
        (
            {"max_steps": 9, "val_check_interval": 4, "check_val_every_n_epoch": None},
            "max_steps=9 leaves its last 1 bat",
        ),
    ],
)
def test_an_end_in_steps_without_a_validation_is_refused(tmp_path, changes, line):
    trainer = tiny_trainer(tmp_path, max_epochs=-1, **changes)
    with pytest.raises(VSEError, match=f"trainer.{line}"):
        check_validation(trainer, 6)


def test_intervals_that_can_be_kept_pass(tmp_path):
    for changes, _ in WAYS.values():
        trainer = tiny_trainer(tmp_path, callbacks=[], enable_checkpointing=False, **changes)
        check_validation(trainer, 6)
        assert validates_inside_epochs(trainer)
    limited = tiny_trainer(tmp_path, callbacks=[], val_check_interval=4, limit_train_batches=3)
    with pytest.raises(VSEError, match="an epoch has 3 batches"):
        check_validation(limited, 6)
    assert not validates_inside_epochs(tiny_trainer(tmp_path))
