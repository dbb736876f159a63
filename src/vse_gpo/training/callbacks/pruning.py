"""Ends the unpromising runs of a study."""

import optuna
import pytorch_lightning as pl
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import Trial, TrialState
from pytorch_lightning.callbacks import Callback


class Pruning(Callback):
    """Reports val/rsum after every validation, and ends the training when the pruner says so; the test follows.

    Args:
        study: file of the study that ``hydra/sweeper=study`` keeps.
        trial: the run's number in it.
        pruner: compares the run with the others at the same validation.
    """

    def __init__(self, *, study: str, trial: int, pruner: optuna.pruners.BasePruner) -> None:
        self.study = study
        self.trial = trial
        self.pruner = pruner
        self._validations = 0

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.sanity_checking:
            return
        hopeless = trainer.is_global_zero and self._hopeless(
            float(trainer.callback_metrics["val/rsum"]), self._validations
        )
        self._validations += 1
        if trainer.strategy.broadcast(hopeless):
            trainer.should_stop = True

    def state_dict(self) -> dict[str, int]:
        return {"validations": self._validations}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        self._validations = state_dict["validations"]

    def _hopeless(self, rsum: float, validation: int) -> bool:
        storage = JournalStorage(JournalFileBackend(self.study))
        study = optuna.load_study(study_name="study", storage=storage, pruner=self.pruner)
        study_id = storage.get_study_id_from_name("study")
        trial = Trial(study, storage.get_trial_id_from_study_id_trial_number(study_id, self.trial))
        if validation not in study.trials[self.trial].intermediate_values:  # a resumed run may report it again
            trial.report(rsum, validation)
        if hopeless := trial.should_prune():
            study.tell(self.trial, state=TrialState.PRUNED)
        return hopeless
