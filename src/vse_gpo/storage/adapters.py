"""Low-rank adapters (LoRA, Hu et al. 2022) beside the layers of a model: recognised by their names, and merged.

Only a training needs the library that makes them: whatever it saves as a model is plain.
"""

from collections.abc import Mapping

from torch import Tensor, nn

from vse_gpo.errors import VSEError, first_line

SCALE = "lora_scale"  # buffer of an adapted layer: what its update is multiplied by
BASE, DOWN, UP = "base_layer", "lora_A.default", "lora_B.default"  # parts of an adapted layer, as peft names them


def merged_weights(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of a model without adapters: W + scale · B · A for each adapted layer, the others as they are.

    Args:
        weights: name → weight; without adapters they stay as they are.

    Raises:
        VSEError: if an adapter is not that of its layer.
    """
    layers = [name.removesuffix(f".{SCALE}") for name in weights if name.endswith(f".{SCALE}")]
    plain = dict(weights)
    try:
        for layer in layers:
            scale, down, up = (plain.pop(f"{layer}.{part}") for part in (SCALE, f"{DOWN}.weight", f"{UP}.weight"))
            plain[f"{layer}.{BASE}.weight"] = plain[f"{layer}.{BASE}.weight"] + scale * (up @ down)
    except (KeyError, RuntimeError) as error:
        raise VSEError(f"adapters of another model ({first_line(error)}); fetch the weights again") from error
    bases = tuple(f"{layer}.{BASE}." for layer in layers)
    return {name.replace(f".{BASE}.", ".") if name.startswith(bases) else name: plain[name] for name in plain}


def drop_adapters(model: nn.Module) -> None:
    """Put the layers back that adapters stand in for, in place and without what the adapters have learned."""
    for parent in list(model.modules()):
        for name, part in list(parent.named_children()):
            if SCALE in dict(part.named_buffers(recurse=False)):
                parent.add_module(name, part.get_submodule(BASE))
