"""Ends the unpromising runs of a study."""

import optuna
import pytorch_lightning as pl
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import Trial, TrialState
from pytorch_lightning.callbacks import Callback


class Pruning(Callback):
    """Reports val/rsum after every epoch, and ends the training when the pruner says so; the test follows as usual.

    Args:
        study: file of the study that ``hydra/sweeper=study`` keeps.
        trial: the run's number in it.
        pruner: compares the run with the others at the same epoch.
    """

    def __init__(self, *, study: str, trial: int, pruner: optuna.pruners.BasePruner) -> None:
        self.study = study
        self.trial = trial
        self.pruner = pruner

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        hopeless = trainer.is_global_zero and self._hopeless(
            float(trainer.callback_metrics["val/rsum"]), trainer.current_epoch
        )
        if trainer.strategy.broadcast(hopeless):
            trainer.should_stop = True

    def _hopeless(self, rsum: float, epoch: int) -> bool:
        storage = JournalStorage(JournalFileBackend(self.study))
        study = optuna.load_study(study_name="study", storage=storage, pruner=self.pruner)
        study_id = storage.get_study_id_from_name("study")
        trial = Trial(study, storage.get_trial_id_from_study_id_trial_number(study_id, self.trial))
        if epoch not in study.trials[self.trial].intermediate_values:  # a resumed run may report it again
            trial.report(rsum, epoch)
        if hopeless := trial.should_prune():
            study.tell(self.trial, state=TrialState.PRUNED)
        return hopeless
