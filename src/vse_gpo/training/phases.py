"""The training story: what is frozen, which negatives count and how the loss is ramped, epoch by epoch.

The phase depends only on the epoch, so a resumed run cannot lose it.
"""

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from vse_gpo.backbones.backbone import Backbone
from vse_gpo.errors import VSEError


@dataclass(frozen=True, kw_only=True)
class Phase:
    """Settings that hold from an epoch on, until the next phase begins.

    Args:
        from_epoch: counted from 0.
        negatives: all in-batch negatives, or the hardest of each query.
        trunk: whether the image backbone trains: ``frozen``, ``trainable``, or the number of its last stages that do; a
            transformer's stages are its blocks.
        ramp_loss: let the loss grow from 0 to its full weight over each epoch of the phase, the published warm-up.
    """

    from_epoch: int
    negatives: str
    trunk: str | int = "trainable"
    ramp_loss: bool = False

    @property
    def hardest(self) -> bool:
        """Whether only the hardest negatives count."""
        return self.negatives == "hardest"

    def __post_init__(self) -> None:
        if self.negatives not in ("all", "hardest"):
            raise VSEError(f"phases: negatives={self.negatives!r}, expected all or hardest")
        counted = isinstance(self.trunk, int) and not isinstance(self.trunk, bool) and self.trunk >= 0
        if not counted and self.trunk not in ("frozen", "trainable"):
            raise VSEError(f"phases: trunk={self.trunk!r}, expected frozen, trainable or a number of stages")


class Phases:
    """The phases of a training.

    Args:
        story: one mapping of ``Phase``'s fields per phase, in order; the first starts at epoch 0.
        epochs_each: let every phase last so many epochs, wherever it would begin; None keeps the story.
        epoch_steps: what the story calls an epoch is so many optimizer steps, for runs that are counted in steps; None
            takes the epochs of the data.
    """

    def __init__(
        self, story: Sequence[Mapping[str, Any]], epochs_each: int | None = None, epoch_steps: int | None = None
    ) -> None:
        self.epoch_steps = epoch_steps
        try:
            self.story = [Phase(**phase) for phase in story]
        except TypeError as error:
            raise VSEError(f"phases: {error}; a phase has {', '.join(Phase.__annotations__)}") from None
        starts = [phase.from_epoch for phase in self.story]
        if not starts or starts[0] != 0 or sorted(set(starts)) != starts:
            raise VSEError(f"phases begin at epochs {starts}, expected increasing epochs that start at 0")
        if epochs_each is not None:
            self.story = [replace(phase, from_epoch=place * epochs_each) for place, phase in enumerate(self.story)]

    def epoch_of(self, epoch: int, step: int) -> int:
        """The story's epoch.

        Args:
            epoch: of the data.
            step: optimizer steps that were taken.
        """
        return epoch if self.epoch_steps is None else step // self.epoch_steps

    def ramp(self, share: float, step: int) -> float:
        """The share of the story's epoch that is over.

        Args:
            share: of the data's epoch.
            step: optimizer steps that were taken.
        """
        return share if self.epoch_steps is None else step % self.epoch_steps / self.epoch_steps

    def end_of(self, max_epochs: int | None, max_steps: int) -> int | None:
        """The story's epochs in a run, as ``most_trainable`` takes them.

        Args:
            max_epochs, max_steps: as the trainer takes them.
        """
        if self.epoch_steps is None:
            return max_epochs
        return None if max_steps < 0 else math.ceil(max_steps / self.epoch_steps)

    def at(self, epoch: int) -> Phase:
        """The phase of an epoch of the story."""
        return [phase for phase in self.story if phase.from_epoch <= epoch][-1]

    def most_trainable(self, end: int | None) -> Phase:
        """The phase that trains most of the image backbone, and so takes most memory; the last of equals.

        Args:
            end: epochs of the run, whose phases count; None or −1 sets no end.
        """
        reached = [phase for phase in self.story if end is None or end < 0 or phase.from_epoch < max(end, 1)]
        stages = {"frozen": 0, "trainable": sys.maxsize}
        trained = [phase.trunk if isinstance(phase.trunk, int) else stages[phase.trunk] for phase in reached]
        return max(zip(trained, reached, strict=True), key=lambda pair: (pair[0], pair[1].from_epoch))[1]

    def soften(self, epoch: int) -> None:
        """Change the phases: all negatives count in this epoch, and the next epoch is as before."""
        now, after = self.at(epoch), self.at(epoch + 1)
        others = [phase for phase in self.story if phase.from_epoch not in (epoch, epoch + 1)]
        here = [replace(now, from_epoch=epoch, negatives="all"), replace(after, from_epoch=epoch + 1)]
        self.story = sorted(others + here, key=lambda phase: phase.from_epoch)


def freeze(backbone: Backbone, phase: Phase) -> None:
    """Freeze the backbone or let it train, as the phase says; stages are ``Backbone.layers(coarse=True)``.

    What is fixed in the backbone stays frozen.
    """
    trained = set(backbone.parameters() if phase.trunk == "trainable" else ())
    if isinstance(phase.trunk, int):
        stages = backbone.layers(coarse=True)
        trained.update(*stages[max(0, len(stages) - phase.trunk) :])
    for parameter in backbone.parameters():
        parameter.requires_grad_(parameter in trained and parameter not in backbone.fixed)
