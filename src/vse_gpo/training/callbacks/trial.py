"""Does the largest step of a run fit into the memory? Tried before its first epoch."""

from collections.abc import Sequence
from typing import Any, TypeVar

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.utilities.memory import garbage_collection_cuda

from vse_gpo.batch import Batch
from vse_gpo.errors import VSEError
from vse_gpo.training.callbacks.progress import print_line
from vse_gpo.training.compilation import forget_sizes
from vse_gpo.training.module import RetrievalModule
from vse_gpo.training.out_of_memory import REMEDIES, is_out_of_memory, reason_of
from vse_gpo.training.trial_step import halves, run_trial_step

Size = TypeVar("Size", int, int | None)


class MemoryTrial(Callback):
    """Runs one step of the story's most trainable phase on the pairs that take most memory, and undoes it.

    Without it, a run whose first epochs are frozen would run out of memory only when the trunk begins to train. With
    ``micro_batch=auto`` it halves the micro-batch until the step fits on all processes. A resumed run keeps the size.

    On a CPU it only runs to find a micro-batch: it takes as long as a step, and a computer without memory mostly ends
    the process instead of raising an error.

    Args:
        on_cpu: run it on a CPU too.
    """

    def __init__(self, *, on_cpu: bool = False) -> None:
        self.on_cpu = on_cpu
        self._found: int | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: RetrievalModule) -> None:  # type: ignore[override]
        """Try the step; choose the micro-batch if it is to be found.

        Raises:
            VSEError: if the step fits in no way that is allowed.
        """
        if pl_module.device.type == "cpu" and not (self.on_cpu or pl_module.seeks_micro_batch):
            return
        batch = pl_module.data.largest_batch()
        if not pl_module.seeks_micro_batch:
            _first_that_fits(trainer, pl_module, batch, [pl_module.micro_batch])
            return
        pairs = len(batch.image_index)
        sizes = [size for size in halves(pairs) if size <= (self._found or pairs)]
        self._found = _first_that_fits(trainer, pl_module, batch, sizes)
        pl_module.use_micro_batch(self._found if self._found < pairs else None)
        pl_module.log("train/micro_batch", float(self._found))
        print_line(trainer, f"micro_batch={self._found}, the largest of {', '.join(map(str, sizes))} that fits")
        forget_sizes(pl_module.model)

    def state_dict(self) -> dict[str, Any]:
        return {} if self._found is None else {"micro_batch": self._found}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._found = state_dict["micro_batch"]


def _first_that_fits(trainer: pl.Trainer, module: RetrievalModule, batch: Batch, sizes: Sequence[Size]) -> Size:
    """The first micro-batch size with which the step fits on all processes."""
    reason = None
    for size in sizes:
        reason = _try_step(trainer, module, batch, size)
        if trainer.strategy.reduce_boolean_decision(reason is None):
            return size
    raise VSEError(f"out of memory in a trial of the largest step ({reason or 'in another process'}); {REMEDIES}")


def _try_step(trainer: pl.Trainer, module: RetrievalModule, batch: Batch, size: int | None) -> str | None:
    """Run the step: None if it fits, otherwise what the error says."""
    reason = None
    try:
        run_trial_step(
            module,
            trainer.strategy.batch_to_device(batch),
            phase=module.phases.most_trainable(module.phases.end_of(trainer.max_epochs, trainer.max_steps)),
            micro_batch=size,
            optimizers=trainer.optimizers,
            precision=trainer.precision_plugin.train_step_context(),
            processes=trainer.world_size,
        )
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        reason = reason_of(error)
    garbage_collection_cuda()  # what the error held, and the device's blocks of these sizes
    return reason
