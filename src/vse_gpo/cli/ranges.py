"""Numbers in a config that no run can use, told before anything is read or fetched."""

import math
from typing import Any

from vse_gpo.errors import VSEError
from vse_gpo.storage.settings import Settings, walk

AUTO = "auto"
COUNT = range(1, 2**31)
RANGES = {  # last part of a setting's name → what it may be; null means what the setting says
    "batch_size": COUNT,
    "evaluation_batch_size": COUNT,
    "micro_batch": COUNT,
    "rank": COUNT,
    "embedding_width": COUNT,
    "check_val_every_n_epoch": COUNT,
    "workers": range(2**15),
    "seed": range(2**32),  # what numpy takes
    "width": COUNT,
    "word_width": COUNT,
    "size": COUNT,
    "bank_size": COUNT,
    "rerank": COUNT,
    "iterations": COUNT,
    "every": COUNT,
    "dev_captions": COUNT,
    "train_captions": COUNT,
    "max_epochs": range(-1, 2**31),  # -1: no end
    "max_steps": range(-1, 2**31),
    "epoch_steps": COUNT,
    "min_count": COUNT,
    "top": COUNT,
    "items": range(2**15),
    "rows": COUNT,
    "queries": range(2**31),
    "at_once": COUNT,
    "port": range(2**16),
}

FOUND = {"items", "micro_batch", "rerank", "workers"}  # these may be ``auto`` too


def check_numbers(settings: Settings) -> None:
    """Refuse infinite numbers, and counts that are no whole number in their range.

    Args:
        settings: of a command as plain containers, interpolations unresolved.

    Raises:
        VSEError: if there is such a number.
    """
    for name, value in walk(settings):
        if isinstance(value, float) and not math.isfinite(value):
            raise VSEError(f"{name}={value}, expected a finite number")
        last = name.rpartition(".")[2]
        allowed, found = RANGES.get(last), last in FOUND
        if allowed is not None and not (
            _follows_another(value) or _within(value, allowed) or (found and value == AUTO)
        ):
            other = f" or {AUTO}" if found else ""
            raise VSEError(f"{name}={value}, expected a whole number from {allowed[0]} to {allowed[-1]}{other}")


def _follows_another(value: Any) -> bool:
    return value is None or (isinstance(value, str) and "${" in value)


def _within(value: Any, allowed: range) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value in allowed
