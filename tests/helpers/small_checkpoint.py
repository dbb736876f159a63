"""A training's checkpoint of a small model, as far as it holds the model."""

from pathlib import Path
from typing import Any

import torch

from tests.helpers.small_settings import SETTINGS
from vse_gpo.storage.settings import build


def write_checkpoint(path: Path, settings: dict[str, Any] = SETTINGS) -> Path:
    """Random weights under the names that a training gives them, a loss's own among them."""
    torch.manual_seed(0)
    weights = {f"model.{name}": value for name, value in build(settings).state_dict().items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    state = weights | {"loss.scale": torch.ones(())}
    torch.save({"settings": {"name": "small", "model": settings}, "state_dict": state}, path)
    return path
