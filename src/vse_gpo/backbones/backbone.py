"""The base of all backbones: layers, for freezing and layer-wise learning rates, and settings to build it again."""

from typing import Any

from torch import nn

from vse_gpo.errors import VSEError

Layers = list[list[nn.Parameter]]  # from the input up; every parameter is in one of them


class Backbone(nn.Module):
    """Inputs of one modality → Features of its own width."""

    whole_items = 0  # items at the front that stand for the whole image or caption, as a class token does
    has_grid = False  # whether the items after them are the cells of a square grid, row by row
    fixed: frozenset[nn.Parameter] = frozenset()  # never train, whatever the phase; adapters train in their place

    def layers(self, *, coarse: bool = False) -> Layers:
        """Parameters layer by layer, from the input up.

        Args:
            coarse: one layer per stage of the trunk, if its stages have many layers.
        """
        return child_layers(self)

    def compilable(self) -> nn.Module | None:
        """The part that ``torch.compile`` takes whole: tensors in and out, without reading values; None if none."""
        return None

    def enable_checkpointing(self, setting: str) -> None:
        """Compute activations again in the backward pass, instead of keeping them (Chen et al. 2016).

        Gradients and everything random are the same; the cost is a second forward pass.

        Args:
            setting: that asks for it, for the error.

        Raises:
            VSEError: if the network has no switch for it.
        """
        raise no_checkpointing(setting, type(self).__name__)

    def architecture(self, settings: dict[str, Any]) -> dict[str, Any]:
        """Turn the settings that built this network into settings that build it without any file."""
        return settings


def no_checkpointing(setting: str, network: str) -> VSEError:
    """The error for a network that keeps all activations."""
    return VSEError(f"{setting}=true: {network} has no gradient checkpointing; set {setting}=false, or micro_batch=…")


def child_layers(module: nn.Module) -> Layers:
    """One layer per child that holds parameters, in order; for a wrapper around one trunk, the trunk's children.

    Parameters that belong to no child form the bottom layer.
    """
    own = list(module.parameters(recurse=False))
    children = [child for child in module.children() if any(True for _ in child.parameters())]
    if len(children) == 1 and not own:
        return child_layers(children[0])
    return [layer for layer in (own, *(list(child.parameters()) for child in children)) if layer]
