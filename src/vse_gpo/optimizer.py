"""Parameter groups: backbones train at a share of the learning rate of what is new, their lower layers at less.

And how many steps a run has.
"""

import math
from typing import Any

from torch import nn

from vse_gpo.backbones.backbone import Backbone
from vse_gpo.errors import VSEError
from vse_gpo.model import VSE


def parameter_groups(
    model: VSE, *, lr: float, image_backbone_scale: float, text_backbone_scale: float, layer_decay: float = 1.0
) -> list[dict[str, Any]]:
    """One group for the heads and one per backbone, or per layer of it, each with a name and its learning rate.

    Args:
        model: whose parameters are grouped, frozen ones included: they may train later.
        lr: of the heads: projections, poolings and everything else that is no backbone.
        image_backbone_scale, text_backbone_scale: the backbones' share of it.
        layer_decay: every layer of a backbone learns at this share of the one above it, the top one at this share of
            the backbone's; 1 turns it off (Bao et al. 2022, "BEiT").

    Raises:
        VSEError: if the decay is not above 0 and at most 1.
    """
    if not 0 < layer_decay <= 1:
        raise VSEError(f"layer_decay={layer_decay}, expected more than 0 and at most 1, which turns it off")
    backbones = {
        "image_backbone": (model.image_encoder.backbone, image_backbone_scale),
        "text_backbone": (model.text_encoder.backbone, text_backbone_scale),
    }
    grouped = {id(parameter) for backbone, _ in backbones.values() for parameter in backbone.parameters()}
    heads = [parameter for parameter in model.parameters() if id(parameter) not in grouped]
    groups: list[dict[str, Any]] = [{"name": "heads", "params": heads, "lr": lr}]
    for name, (backbone, scale) in backbones.items():
        if layer_decay == 1:
            groups.append({"name": name, "params": list(backbone.parameters()), "lr": lr * scale})
        else:
            groups += decayed_groups(name, backbone, lr * scale, layer_decay)
    return [group for group in groups if group["params"]]


def decayed_groups(name: str, backbone: nn.Module, lr: float, decay: float) -> list[dict[str, Any]]:
    """One group per layer, named by its place from the input up."""
    layered: Backbone = backbone  # type: ignore[assignment]
    layers = layered.layers()
    return [
        {"name": f"{name}_{place}", "params": layer, "lr": lr * decay ** (len(layers) - place)}
        for place, layer in enumerate(layers)
    ]


def steps_of_run(*, batches: int, limit: int | float, accumulated: int, max_epochs: int, max_steps: int) -> int:
    """Optimizer steps of a whole run.

    Args:
        batches: of an epoch.
        limit: the trainer's ``limit_train_batches``: a number of batches, or the share of them that runs.
        accumulated: batches per optimizer step; an epoch's last step may have fewer.
        max_epochs, max_steps: where the run ends, whichever comes first; −1 sets no end.

    Raises:
        VSEError: if neither ends it.
    """
    run = min(batches, limit) if isinstance(limit, int) else int(batches * limit)
    ends = [max_epochs * math.ceil(run / accumulated)] if max_epochs >= 0 else []
    ends += [max_steps] if max_steps >= 0 else []
    if not ends:
        raise VSEError("a schedule over steps needs a run that ends; set trainer.max_epochs")
    return min(ends)
