"""Try Triton kernels once where they are to run: Triton needs a C compiler and a matching driver."""

import warnings
from collections.abc import Callable
from importlib.util import find_spec

import torch

from vse_gpo.errors import first_line

HAS_TRITON = find_spec("triton") is not None  # comes with torch's CUDA builds on Linux


def kernels_run(trial: Callable[[], bool], what: str, instead: str) -> bool:
    """Whether a trial succeeds; if not, a warning says why and what runs instead.

    The first caller may be in inference mode, or in a checkpointed forward pass, whose hooks the trial must not use.

    Args:
        trial: runs the kernels, forwards and backwards, and says whether they gave what is expected.
        what: the kernels and their device, for the warning.
        instead: what the caller does without them.
    """
    hooks = torch.autograd.graph.saved_tensors_hooks(lambda saved: saved, lambda saved: saved)
    try:
        with torch.inference_mode(False), torch.enable_grad(), hooks:
            if trial():
                return True
        reason = "they gave wrong numbers"
    except Exception as error:  # from any library between here and the driver
        reason = f"{type(error).__name__}: {first_line(error)}"
    warnings.warn(f"the Triton kernels {what} do not run ({reason}); {instead}", stacklevel=3)
    return False
