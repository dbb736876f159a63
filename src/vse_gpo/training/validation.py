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
        VSEError: if the interval is less than a batch, a time, or more than the batches of an epoch or of the run, or
            if a run that is counted in steps would end between two validations.
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
    if trainer.max_steps >= 0:
        _check_steps(trainer, epoch)
    every, epochs = trainer.check_val_every_n_epoch, trainer.max_epochs
    first = (
        math.ceil(interval / max(1, epoch)) if every is None else every
    )  # epoch of the first validation, counted from 1
    if epochs is not None and 0 <= epochs < first:
        raise VSEError(
            f"trainer.max_epochs={epochs} ends the run before its first validation, in epoch {first}; set {name} or "
            "trainer.check_val_every_n_epoch to less"
        )


def _check_steps(trainer: pl.Trainer, epoch: int) -> None:
    """Refuse an end before the first validation, or after the last one that is counted over epochs.

    Args:
        trainer: as configured, with an end in steps.
        epoch: batches of an epoch.
    """
    interval, every, batches = (
        trainer.val_check_interval,
        trainer.check_val_every_n_epoch,
        trainer.max_steps * trainer.accumulate_grad_batches,
    )
    inside = interval if isinstance(interval, int) else max(1, int(epoch * interval))
    first = inside if every is None else (every - 1) * epoch + inside
    found = f"trainer.max_steps={trainer.max_steps}"
    if batches < first:
        raise VSEError(
            f"{found} ends the run before its first validation, after batch {first}; set trainer.val_check_interval to "
            "less, with trainer.check_val_every_n_epoch=null"
        )
    if every is None and batches % inside:
        raise VSEError(
            f"{found} leaves its last {batches % inside} batches without a validation, one in {inside}; set a multiple"
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
