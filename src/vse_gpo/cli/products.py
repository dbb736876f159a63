"""The settings that say how a command computes float32 products on a GPU."""

import importlib
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

from vse_gpo.errors import VSEError
from vse_gpo.storage.settings import Settings

PRECISION, BENCHMARK = "matmul_precision", "cudnn_benchmark"
PRECISIONS = ("highest", "high", "medium")  # torch's names


def product_settings(settings: Settings) -> Callable[[], AbstractContextManager[None]]:
    """What the work of a command is done within; see ``vse_gpo.precision.float32_products``.

    Args:
        settings: of a command, as plain containers. A command without these two changes nothing.

    Raises:
        VSEError: if one of the two has no such value.
    """
    if PRECISION not in settings:
        return nullcontext
    precision, benchmark = settings[PRECISION], settings[BENCHMARK]
    if precision not in PRECISIONS:
        raise VSEError(f"{PRECISION}={precision}, expected one of {', '.join(PRECISIONS)}")
    if not isinstance(benchmark, bool):
        raise VSEError(f"{BENCHMARK}={benchmark}, expected true or false")

    def within() -> AbstractContextManager[None]:
        products = importlib.import_module("vse_gpo.precision")  # after the checks, as it imports torch
        context: AbstractContextManager[None] = products.float32_products(precision, cudnn_benchmark=benchmark)
        return context

    return within
