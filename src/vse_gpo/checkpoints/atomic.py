"""Checkpoints written so that a crash or a full disk never destroys the older one."""

from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.plugins.io import TorchCheckpointIO

from vse_gpo.storage.writing import whole_file


class AtomicCheckpoints(TorchCheckpointIO):
    """Replaces the old checkpoint only when the new one is complete."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        with whole_file(Path(path)) as file:
            torch.save(checkpoint, file)
