"""``torch.compile`` for the networks inside the backbones."""

import torch
from torch import nn

from vse_gpo.backbones.backbone import Backbone
from vse_gpo.errors import VSEError, first_line
from vse_gpo.model import VSE


def compile_networks(model: VSE, mode: str) -> None:
    """Compile the trunk and the text encoder's network, which take nearly all of a step's time, at their first batch.

    This works in place: parameters keep their names, and copies of the model, such as averaged weights, run uncompiled.
    Code around the networks that depends on lengths stays uncompiled: sorting by length, GRUs, pooling.

    Images have one size, so a trunk is compiled for the first batch size, and once more for any number of images when
    another batch size occurs. Captions have many lengths, so their network is compiled for any length from the start.

    Args:
        model: the two encoders.
        mode: mode of ``torch.compile``: default or max-autotune-no-cudagraphs. CUDA graphs write every output of a
            network to the same memory, where the next call would overwrite what a step still needs.

    Raises:
        VSEError: if torch has no such mode, the mode has CUDA graphs, or neither backbone has a network to compile.
    """
    from torch._inductor import list_mode_options  # noqa: PLC0415, takes a second

    modes = list_mode_options()
    if mode in modes and modes[mode].get("triton.cudagraphs"):
        usable = [name for name, options in modes.items() if not options.get("triton.cudagraphs")]
        raise VSEError(f"compile={mode} has CUDA graphs, which would overwrite outputs; expected {' or '.join(usable)}")
    image_backbone: Backbone = model.image_encoder.backbone
    text_backbone: Backbone = model.text_encoder.backbone
    trunk, texts = image_backbone.compilable(), text_backbone.compilable()
    if trunk is None and texts is None:
        raise VSEError("compile: neither region features nor a GRU can be compiled; set compile=null")
    if trunk is not None:
        _compile(trunk, mode, dynamic=None)
    if texts is not None:
        _compile(texts, mode, dynamic=True)


def forget_sizes(model: nn.Module) -> None:
    """Let networks that are compiled start afresh, as if they had not seen any batch size yet."""
    if any(part._compiled_call_impl is not None for part in model.modules()):
        torch.compiler.reset()


def _compile(network: nn.Module, mode: str, *, dynamic: bool | None) -> None:
    try:
        network.compile(mode=mode, dynamic=dynamic)
    except RuntimeError as error:
        raise VSEError(f"compile={mode}: {first_line(error)}") from error
