"""When a run validates: after every epoch, or inside epochs by ``trainer.val_check_interval``."""

import math

import pytorch_lightning as pl

from vse_gpo.errors import VSEError
from vse_gpo.training.optimization import batches_run


def check_validation(trainer: pl.Trainer, batches: int) -> None:
    """Refuse intervals that Lightning cannot keep, that no two runs keep alike or that the run is too short for.

    Args:
        trainer: as configured.
        batches: of an epoch.

    Raises:
        VSEError: if the interval is less than a batch, a time, or more than the batches of an epoch or of the run.
    """
    name = "trainer.val_check_interval"
    if getattr(trainer, "_val_check_time_interval", None) is not None:
        raise VSEError(f"{name} is a time, after which no two runs do the same; expected a number of batches")
    interval = trainer.val_check_interval
    if interval <= 0:
        raise VSEError(f"{name}={interval}, expected a number of batches, or a share of an epoch above 0")
    epoch = batches_run(batches, trainer.limit_train_batches)
    if isinstance(interval, int) and interval > epoch and trainer.check_val_every_n_epoch is not None:
        raise VSEError(
            f"{name}={interval}: an epoch has {epoch} batches; set trainer.check_val_every_n_epoch=null to count over "
            "epochs"
        )
    every, epochs = trainer.check_val_every_n_epoch, trainer.max_epochs
    first = (
        math.ceil(interval / max(1, epoch)) if every is None else every
    )  # epoch of the first validation, counted from 1
    if epochs is not None and 0 <= epochs < first:
        raise VSEError(
            f"trainer.max_epochs={epochs} ends the run before its first validation, in epoch {first}; set {name} or "
            "trainer.check_val_every_n_epoch to less"
        )


def validates_inside_epochs(trainer: pl.Trainer) -> bool:
    """Whether validations happen inside epochs, so that an epoch may have several or none."""
    return isinstance(trainer.val_check_interval, int) or trainer.val_check_interval < 1


def validates_after(trainer: pl.Trainer, batch_idx: int) -> bool:
    """Whether a validation follows a training batch.

    Args:
        trainer: in training.
        batch_idx: of the batch in its epoch.
    """
    every = trainer.check_val_every_n_epoch
    if not trainer.enable_validation or (every is not None and (trainer.current_epoch + 1) % every):
        return False
    counted = trainer.fit_loop.total_batch_idx if every is None else batch_idx
    return (counted + 1) % trainer.val_check_batch == 0  # type: ignore[operator]
