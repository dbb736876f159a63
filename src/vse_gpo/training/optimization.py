"""The optimizer and its schedule: backbones learn at a fraction of the heads' rate, lower layers at a smaller one."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from vse_gpo.backbones.backbone import Backbone
from vse_gpo.errors import VSEError, first_line
from vse_gpo.model import VSE

Groups = list[dict[str, Any]]  # parameter groups as optimizers take them, each with a name


@dataclass(frozen=True, kw_only=True)
class Optimization:
    """How a model is optimized.

    Args:
        optimizer: parameter groups → optimizer; also takes ``lr``, the rate of the heads.
        schedule: optimizer → learning-rate schedule; a schedule over steps also takes ``num_training_steps``.
        interval: unit of the schedule, ``epoch`` or ``step``.
        lr: learning rate of the heads: projections, poolings and everything else outside the backbones.
        image_backbone_scale, text_backbone_scale: the backbones' rates as fractions of ``lr``.
        layer_decay: rate of each layer of a backbone as a fraction of that of the layer above, or of the backbone's
            rate for the top layer; 1 turns it off (Bao et al. 2022, "BEiT").

    Raises:
        VSEError: if the decay is not above 0 and at most 1.
    """

    optimizer: Callable[..., torch.optim.Optimizer]
    schedule: Callable[..., torch.optim.lr_scheduler.LRScheduler]
    interval: str
    lr: float
    image_backbone_scale: float
    text_backbone_scale: float
    layer_decay: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.layer_decay <= 1:
            raise VSEError(f"layer_decay={self.layer_decay}, expected more than 0 and at most 1, which turns it off")

    def groups(self, model: VSE, loss: nn.Module) -> Groups:
        """Parameter groups for the optimizer, the loss's own included; frozen parameters too, as they may train later.

        The groups are the heads, then each backbone or, with a layer decay, each of its layers. What is fixed in a
        backbone is in none.
        """
        backbones = {
            "image_backbone": (model.image_encoder.backbone, self.image_backbone_scale),
            "text_backbone": (model.text_encoder.backbone, self.text_backbone_scale),
        }
        grouped = {id(parameter) for backbone, _ in backbones.values() for parameter in backbone.parameters()}
        grouped |= {id(parameter) for parameter in loss.parameters()}  # a pretrained model's logits are the loss's too
        heads = [parameter for parameter in model.parameters() if id(parameter) not in grouped]
        groups: Groups = [{"name": "heads", "params": heads, "lr": self.lr}]
        for name, (backbone, scale) in backbones.items():
            if self.layer_decay == 1:
                groups.append({"name": name, "params": _free(backbone.parameters(), backbone), "lr": self.lr * scale})
            else:
                groups += decayed_groups(name, backbone, self.lr * scale, self.layer_decay)
        # temperatures: decay would pull the scale of similarities to 1
        groups.append({"name": "loss", "params": list(loss.parameters()), "lr": self.lr, "weight_decay": 0.0})
        return [group for group in groups if group["params"]]

    def build(self, groups: Groups, count_steps: Callable[[], int]) -> dict[str, Any]:
        """Optimizer and schedule, as Lightning takes them.

        Args:
            groups: see ``groups``.
            count_steps: gives the steps of the whole run; called only for a schedule over steps.

        Raises:
            VSEError: if the optimizer or the schedule refuses its settings.
        """
        told = {"num_training_steps": count_steps()} if self.interval == "step" else {}
        try:
            optimizer = self.optimizer(groups, lr=self.lr)
            schedule = self.schedule(optimizer, **told)
        except (TypeError, ValueError, RuntimeError) as error:  # raised for their settings
            raise VSEError(f"optimizer: {first_line(error)}") from error
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": self.interval}}


def decayed_groups(name: str, backbone: Backbone, lr: float, decay: float) -> Groups:
    """One group per layer, numbered from the input up."""
    layers = backbone.layers()
    return [
        {"name": f"{name}_{place}", "params": _free(layer, backbone), "lr": lr * decay ** (len(layers) - place)}
        for place, layer in enumerate(layers)
    ]


def _free(parameters: Iterable[nn.Parameter], backbone: Backbone) -> list[nn.Parameter]:
    return [parameter for parameter in parameters if parameter not in backbone.fixed]


def batches_run(batches: int, limit: int | float) -> int:
    """Batches of an epoch that run.

    Args:
        batches: that the epoch has.
        limit: the trainer's ``limit_train_batches``: a number of batches, or the fraction of them that runs.
    """
    return min(batches, limit) if isinstance(limit, int) else int(batches * limit)


def steps_of_run(*, batches: int, limit: int | float, accumulated: int, max_epochs: int | None, max_steps: int) -> int:
    """Optimizer steps of a whole run.

    Args:
        batches, limit: see ``batches_run``.
        accumulated: batches per optimizer step; an epoch's last step may have fewer.
        max_epochs, max_steps: where the run ends, whichever comes first; −1, and for epochs None, sets no end.

    Raises:
        VSEError: if neither sets an end.
    """
    ends = (
        [max_epochs * math.ceil(batches_run(batches, limit) / accumulated)]
        if max_epochs is not None and max_epochs >= 0
        else []
    )
    ends += [max_steps] if max_steps >= 0 else []
    if not ends:
        raise VSEError("a schedule over steps needs a run that ends; set trainer.max_epochs")
    return min(ends)
