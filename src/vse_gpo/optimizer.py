"""Parameter groups: backbones train at a share of the learning rate of what is new."""

from typing import Any

from torch import nn

from vse_gpo.model import VSE


def parameter_groups(
    model: VSE, *, lr: float, image_backbone_scale: float, text_backbone_scale: float
) -> list[dict[str, Any]]:
    """One group for the heads and one per backbone, each with a name and its learning rate.

    Args:
        model: whose parameters are grouped, frozen ones included: they may train later.
        lr: of the heads: projections, poolings and everything else that is no backbone.
        image_backbone_scale, text_backbone_scale: the backbones' share of it.
    """
    backbones = {
        "image_backbone": (model.image_encoder.backbone, image_backbone_scale),
        "text_backbone": (model.text_encoder.backbone, text_backbone_scale),
    }
    grouped = {id(parameter) for backbone, _ in backbones.values() for parameter in _parameters(backbone)}
    heads = [parameter for parameter in model.parameters() if id(parameter) not in grouped]
    groups: list[dict[str, Any]] = [{"name": "heads", "params": heads, "lr": lr}]
    for name, (backbone, scale) in backbones.items():
        if parameters := _parameters(backbone):
            groups.append({"name": name, "params": parameters, "lr": lr * scale})
    return groups


def _parameters(module: Any) -> list[nn.Parameter]:
    return list(module.parameters())
