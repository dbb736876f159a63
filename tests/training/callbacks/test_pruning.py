"""A run of a study tells its rSum after every epoch, and ends when the pruner says so."""

from pathlib import Path

import pytest
import pytorch_lightning as pl

from tests.helpers.tiny import save_last, tiny_data, tiny_module, tiny_trainer

optuna = pytest.importorskip("optuna", minversion="4.9", reason="optuna is not installed")
from vse_gpo.training.callbacks.pruning import Pruning  # noqa: E402, needs Optuna


def study_in(folder: Path) -> optuna.Study:
    """The study of a sweep in the folder, made if it is not there."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(folder / "study.log")))
    return optuna.create_study(storage=storage, study_name="study", direction="maximize", load_if_exists=True)


def fit(folder: Path, lowest: float, *, max_epochs: int = 3) -> pl.Trainer:
    """A run of the study's first trial, which a pruner ends below an rSum."""
    pruner = optuna.pruners.ThresholdPruner(lower=lowest)
    pruning = Pruning(study=str(folder / "study.log"), trial=0, pruner=pruner)
    trainer = tiny_trainer(folder, max_epochs=max_epochs, callbacks=[pruning, save_last(folder)])
    trainer.fit(tiny_module(), datamodule=tiny_data())
    return trainer


def test_a_run_that_keeps_up_is_reported_and_goes_to_its_end(tmp_path):
    study_in(tmp_path).ask()
    trainer = fit(tmp_path, lowest=0.0)
    [trial] = study_in(tmp_path).trials
    assert trainer.current_epoch == 3
    assert [*trial.intermediate_values] == [0, 1, 2]
    assert trial.intermediate_values[2] == pytest.approx(float(trainer.callback_metrics["val/rsum"]))
    assert trial.state.name == "RUNNING"  # its end is told by the sweep


def test_a_hopeless_run_ends_after_its_epoch(tmp_path):
    study_in(tmp_path).ask()
    assert fit(tmp_path, lowest=601.0).current_epoch == 1
    [trial] = study_in(tmp_path).trials
    assert (trial.state.name, [*trial.intermediate_values]) == ("PRUNED", [0])


def test_a_run_that_is_started_again_reports_no_epoch_twice(tmp_path):
    study_in(tmp_path).ask()
    fit(tmp_path, lowest=0.0, max_epochs=1)
    before = study_in(tmp_path).trials[0].intermediate_values
    trainer = fit(tmp_path, lowest=0.0, max_epochs=2)
    after = study_in(tmp_path).trials[0].intermediate_values
    assert trainer.current_epoch == 2
    assert [*after] == [0, 1]
    assert after[0] == before[0]
