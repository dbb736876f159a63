"""Low-rank adapters (LoRA, Hu et al. 2022) by peft, for any backbone with linear layers; needs the extra ``lora``."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from peft import LoraConfig, inject_adapter_in_model
from torch import nn

from vse_gpo.backbones.backbone import Backbone
from vse_gpo.errors import VSEError, did_you_mean
from vse_gpo.model import VSE
from vse_gpo.storage.adapters import SCALE


@dataclass(frozen=True, kw_only=True)
class Lora:
    """Gives the linear layers of a model's backbones adapters, and lets only these train of the backbones.

    What is outside the backbones trains as before: projections, poolings, logits. A new model is what it was without
    adapters. A backbone without weights, such as region features, stays as it is.

    Args:
        rank: of each layer's update.
        alpha: the update is multiplied by ``alpha / rank``.
        dropout: probability that a value of a layer's input does not reach the adapter.
        targets: ends of the names of the layers to adapt, such as q_proj; None adapts all.
        images, texts: whether the image and the text backbone get adapters; one that gets none trains as a whole.

    Raises:
        VSEError: if a number is not one that an adapter can have, or no backbone gets adapters.
    """

    rank: int
    alpha: float
    dropout: float = 0.0
    targets: Sequence[str] | None = None
    images: bool = True
    texts: bool = True

    def __post_init__(self) -> None:
        if not (isinstance(self.rank, int) and self.rank >= 1):
            raise VSEError(f"adapters.rank={self.rank}, expected a whole number from 1")
        if not (isinstance(self.alpha, int | float) and self.alpha > 0):
            raise VSEError(f"adapters.alpha={self.alpha}, expected a number above 0")
        if not (isinstance(self.dropout, int | float) and 0 <= self.dropout < 1):
            raise VSEError(f"adapters.dropout={self.dropout}, expected at least 0 and less than 1")
        if not (self.images or self.texts):
            raise VSEError("adapters with images=false and texts=false adapt nothing; set adapters=null")

    def __call__(self, model: VSE) -> None:
        """Add the adapters to a model, in place.

        Raises:
            VSEError: if a backbone has no layer for them, or a target is in none.
        """
        encoders = {"images": (self.images, model.image_encoder), "texts": (self.texts, model.text_encoder)}
        backbones: dict[str, Backbone] = {name: encoder.backbone for name, (own, encoder) in encoders.items() if own}
        layers = {
            name: linear_layers(backbone)
            for name, backbone in backbones.items()
            if any(True for _ in backbone.parameters())
        }
        if not layers:
            raise VSEError("adapters: no backbone that gets them has weights; set adapters=null")
        names = {layer.rpartition(".")[2] for found in layers.values() for layer in found}
        for target in self.targets or ():
            if not any(_ends_in(layer, target) for found in layers.values() for layer in found):
                raise VSEError(
                    f"adapters.targets: {target} is no linear layer{did_you_mean(target, names)}; "
                    f"there are {', '.join(sorted(names))}"
                )
        for name, found in layers.items():
            chosen = [
                layer for layer in found if self.targets is None or any(_ends_in(layer, one) for one in self.targets)
            ]
            if not chosen:
                raise VSEError(f"adapters: no layer of the backbone of the {name} to adapt; set adapters.{name}=false")
            self._adapt(backbones[name], chosen)

    def _adapt(self, backbone: Backbone, layers: list[str]) -> None:
        alpha: Any = self.alpha  # peft takes fractions too
        config = LoraConfig(r=self.rank, lora_alpha=alpha, lora_dropout=self.dropout, target_modules=layers)
        inject_adapter_in_model(config, backbone)
        for layer in layers:
            adapted = backbone.get_submodule(layer)
            scale = self.alpha / self.rank
            adapted.register_buffer(SCALE, torch.tensor(scale))
        backbone.fixed = frozenset(one for one in backbone.parameters() if not one.requires_grad)


def linear_layers(backbone: nn.Module) -> list[str]:
    """Names of the linear layers of a network, but for those that torch's attention reads without calling them."""
    attentions = [part for part in backbone.modules() if isinstance(part, nn.MultiheadAttention)]
    read = {part for attention in attentions for part in attention.modules()}
    return [name for name, part in backbone.named_modules() if isinstance(part, nn.Linear) and part not in read]


def _ends_in(layer: str, target: str) -> bool:
    return f".{layer}".endswith(f".{target}")
