"""Running out of memory, as one line that says what to set."""

from collections.abc import Iterator
from contextlib import contextmanager
from textwrap import shorten

import torch

from vse_gpo.errors import VSEError, first_line

SIGNS = ("out of memory", "can't allocate memory", "bad_alloc", "STATUS_ALLOC_FAILED")  # of CUDA, the CPU, C++, cuBLAS
REMEDIES = (
    "set micro_batch=auto or a smaller micro_batch, trainer.precision=bf16-mixed, backbone.checkpointing=true, more "
    "devices (trainer=ddp), or in validation a smaller evaluation_batch_size"
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory was missing, that of a GPU or of the computer.

    Lightning's ``is_oom_error`` also takes an error of cuDNN that has other causes, and misses cuBLAS and NumPy.
    """
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in SIGNS)


def reason_of(error: Exception) -> str:
    """The beginning of a library's message, which says how much was asked for."""
    return shorten(first_line(error), 200, placeholder="…")


@contextmanager
def memory_explained() -> Iterator[None]:
    """Turn an error of missing memory into one line.

    Raises:
        VSEError: if the memory is not enough.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise VSEError(f"out of memory ({reason_of(error)}); {REMEDIES}") from error
