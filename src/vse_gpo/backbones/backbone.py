"""What every backbone can tell: its layers, for freezing and layer-wise learning rates, and how to build it again."""

from typing import Any

from torch import nn
from transformers import PreTrainedModel

from vse_gpo.errors import VSEError

Layers = list[list[nn.Parameter]]  # from the input up; every parameter in one of them


class Backbone(nn.Module):
    """Inputs of one modality → Features of its own width."""

    def layers(self, *, coarse: bool = False) -> Layers:
        """Parameters layer by layer, from the input up.

        Args:
            coarse: a trunk's stages, where a network has stages of many layers.
        """
        return child_layers(self)

    def compilable(self) -> nn.Module | None:
        """What ``torch.compile`` can take as a whole: tensors in, tensors out, nothing read from them on the way."""
        return None

    def architecture(self, settings: dict[str, Any]) -> dict[str, Any]:
        """Settings that build the same network without any file, from those that built this one."""
        return settings


def child_layers(module: nn.Module) -> Layers:
    """One layer per child that holds parameters, in their order; wrappers around a trunk are looked through.

    Parameters that belong to no child lie at the bottom.
    """
    own = list(module.parameters(recurse=False))
    children = [child for child in module.children() if any(True for _ in child.parameters())]
    if len(children) == 1 and not own:
        return child_layers(children[0])
    return [layer for layer in (own, *(list(child.parameters()) for child in children)) if layer]


def transformer_layers(network: PreTrainedModel) -> Layers:
    """A Hugging Face encoder's embeddings, then its layers one by one.

    What is registered before the layers lies at the bottom, what comes after them belongs to the top one.

    Raises:
        VSEError: if the network is no stack of ``config.num_hidden_layers`` layers, as ALBERT, which has one for all.
    """
    depth: int = network.config.num_hidden_layers
    stack = next((part for part in network.modules() if isinstance(part, nn.ModuleList) and len(part) == depth), None)
    if stack is None:
        raise VSEError(
            f"{network.config.model_type}: no stack of {depth} layers, so none can be slowed down or frozen by itself; "
            "set optimizer.layer_decay=1.0, and trunk to frozen or trainable in the phases"
        )
    layers: Layers = [[], *(list(layer.parameters()) for layer in stack)]
    depths = {parameter: index for index, layer in enumerate(layers) for parameter in layer}
    reached = 0
    for parameter in network.parameters():
        if parameter in depths:
            reached = depths[parameter]
        else:
            layers[reached].append(parameter)
    return layers
