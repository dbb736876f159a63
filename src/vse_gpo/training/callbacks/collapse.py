"""Watches for embeddings that collapse: all of them nearly one point, and a loss that no longer tells pairs apart."""

from typing import Any, NamedTuple

import pytorch_lightning as pl
import torch
from jaxtyping import Float, Int
from pytorch_lightning.callbacks import Callback
from torch import Tensor

from vse_gpo.batch import Batch
from vse_gpo.errors import VSEError
from vse_gpo.training.callbacks.progress import is_logged, print_line
from vse_gpo.training.module import RetrievalModule, StepOutputs

ANSWERS = ("warn", "stop", "soften")


class Signs(NamedTuple):
    """Signs of a collapse in one batch; scalars stay on their device."""

    image_spread: Float[Tensor, ""]
    caption_spread: Float[Tensor, ""]
    loss_ratio: Float[Tensor, ""]  # loss over that of a batch of equal embeddings

    def collapsed(self, *, spread: float, tolerance: float) -> bool:
        """Whether one modality is nearly a point and the loss is that of equal embeddings."""
        smallest = torch.minimum(self.image_spread, self.caption_spread)
        return bool((smallest < spread) & ((self.loss_ratio - 1).abs() < tolerance))


class Collapse(Callback):
    """Logs the signs of a collapse at every logged step, and reacts to a collapse that lasts.

    ``train/image_spread`` and ``train/caption_spread`` are 1 − the mean cosine of two embeddings of the batch: near 1
    when they fill the space, 0 when all are equal. ``train/loss_ratio`` is the loss over that of a batch whose
    embeddings are all equal, which is 2·B·margin for the triplet loss of the hardest negatives: 1 if the model tells
    nothing apart. Any model starts there; a collapsed one stays or returns. ``train/collision_rate`` is the share of
    a batch's pairs whose image occurs in it more than once: false negatives, unless ``mask_same_image`` is on.

    Args:
        on_collapse: ``warn`` prints one line, once; ``stop`` also ends the training, as early stopping does; ``soften``
            lets all negatives count for the rest of the epoch and the next one, each time it happens. ``soften`` has no
            effect on losses without hardest negatives.
        spread: a spread of either modality below this is a collapse,
        tolerance: if the loss is also this close to that of equal embeddings, as a fraction of it,
        patience: for this many steps.

    Raises:
        VSEError: if ``on_collapse`` is unknown.
    """

    def __init__(self, *, on_collapse: str, spread: float, tolerance: float, patience: int) -> None:
        if on_collapse not in ANSWERS:
            raise VSEError(f"on_collapse={on_collapse!r}, expected one of {', '.join(ANSWERS)}")
        self.on_collapse = on_collapse
        self.spread = spread
        self.tolerance = tolerance
        self.patience = patience
        self._since: int | None = None  # the step in which the collapse was first seen
        self._warned = False
        self._softened: list[int] = []  # epochs

    def on_fit_start(self, trainer: pl.Trainer, pl_module: RetrievalModule) -> None:  # type: ignore[override]
        for epoch in self._softened:  # epochs of the resumed run
            pl_module.phases.soften(epoch)

    def on_train_batch_end(  # type: ignore[override]
        self,
        trainer: pl.Trainer,
        pl_module: RetrievalModule,
        outputs: StepOutputs,
        batch: Batch,
        batch_idx: int,
    ) -> None:
        if not is_logged(trainer, trainer.global_step) or len(outputs["images"]) < 2:
            return  # a single pair has no spread
        signs = signs_of_collapse(pl_module, outputs, loss=trainer.callback_metrics["train/loss"])
        pl_module.log_dict({f"train/{name}": value for name, value in signs._asdict().items()})
        everywhere: Tensor = pl_module.all_gather(batch.image_index)  # type: ignore[assignment]
        pl_module.log("train/collision_rate", collision_rate(everywhere.flatten()))
        collapsed = signs.collapsed(spread=self.spread, tolerance=self.tolerance)
        if not trainer.strategy.reduce_boolean_decision(collapsed):
            self._since = None
            return
        self._since = trainer.global_step if self._since is None else self._since
        if trainer.global_step - self._since >= self.patience:
            self._answer(trainer, pl_module, signs)

    def state_dict(self) -> dict[str, Any]:
        return {"since": self._since, "warned": self._warned, "softened": self._softened}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._since, self._warned = state_dict["since"], state_dict["warned"]
        self._softened = state_dict["softened"]

    def _answer(self, trainer: pl.Trainer, module: RetrievalModule, signs: Signs) -> None:
        if not self._warned:
            self._warned = True
            print_line(trainer, warning(trainer, module, signs))
        if self.on_collapse == "stop":
            trainer.should_stop = True
        elif self.on_collapse == "soften" and module.phase.hardest:
            epoch = module.phases.epoch_of(trainer.current_epoch, trainer.global_step)
            for softened in (epoch, epoch + 1):
                module.phases.soften(softened)
                self._softened.append(softened)
            self._since = None
            print_line(trainer, f"step {trainer.global_step}: all negatives count up to the end of epoch {epoch + 1}")


@torch.no_grad()
def signs_of_collapse(module: RetrievalModule, outputs: StepOutputs, *, loss: Float[Tensor, ""]) -> Signs:
    """The signs in one batch.

    Args:
        module: module that computes the losses.
        outputs: outputs of its training step.
        loss: loss of the batch, not ramped.
    """
    images, captions = outputs["images"].float(), outputs["captions"].float()
    same = (images.mean(0) @ captions.mean(0)).expand(len(images), len(images))
    level = module.objective(dict.fromkeys(module.objective.kinds, same), module.phase.hardest, outputs["not_negative"])
    if module.dense is not None:
        level = level * module.dense.weight
    return Signs(spread(images), spread(captions), loss / level)


def spread(embeddings: Float[Tensor, "batch dim"]) -> Float[Tensor, ""]:
    """1 − the mean cosine of two different unit embeddings of a batch."""
    count = len(embeddings)
    found = 1 - (embeddings.sum(0).square().sum() - count) / (count * (count - 1))
    return found.clamp(min=0)  # rounding gives less where all are equal


def collision_rate(image_index: Int[Tensor, " batch"]) -> Float[Tensor, ""]:
    """The share of pairs whose image occurs more than once."""
    occurrences = (image_index[:, None] == image_index[None, :]).sum(1)
    return (occurrences > 1).float().mean()


def warning(trainer: pl.Trainer, module: RetrievalModule, signs: Signs) -> str:
    """What was found, the likely cause, and what to change."""
    hardest = module.phase.hardest
    cause = "the hardest negatives came before the model could tell easy ones apart" if hardest else "too large steps"
    rate = trainer.optimizers[0].param_groups[0]["lr"]
    return (
        f"step {trainer.global_step}: the embeddings have collapsed: spread {float(signs.image_spread):.4f} of images "
        f"and {float(signs.caption_spread):.4f} of captions, loss {100 * float(signs.loss_ratio):.0f} % of what equal "
        f"embeddings give. Likely cause: {cause}. Try a lower learning rate (optimizer.lr, now {rate:.1e}), a longer "
        "warm-up on all negatives or a frozen trunk at first (phases: negatives, ramp_loss, trunk), "
        "or another batch_size (fewer pairs have easier negatives)"
    )
