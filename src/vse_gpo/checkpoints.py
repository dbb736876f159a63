"""Checkpoints: written so that a crash or a full disk never costs the older one."""

import os
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.plugins.io import TorchCheckpointIO

from vse_gpo.errors import VSEError


class AtomicCheckpoints(TorchCheckpointIO):
    """Writes beside the old file and takes its place only when the new one is whole."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        path = Path(path)
        part = path.with_name(f".{path.name}.part")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with part.open("wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
        except (OSError, RuntimeError) as error:
            part.unlink(missing_ok=True)
            raise VSEError(f"{path}: cannot write the checkpoint ({error}); older ones are kept") from error


def check_readable(path: str) -> None:
    """Stop before any work if a checkpoint cannot be resumed from."""
    if not Path(path).is_file():
        raise VSEError(f"resume={path}: no such file, expected a checkpoint such as runs/…/checkpoints/last.ckpt")
