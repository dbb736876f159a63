"""Checkpoints: written so that a crash or a full disk never costs the older one."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.plugins.io import TorchCheckpointIO
from torch import Tensor

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


def region_names(released: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A released region encoder's weights under our names; the second BatchNorm, unused by its forward, stays out."""
    return _rename(
        released,
        {
            "mlp.layers.0.": "projection.mlp.0.",
            "mlp.bns.0.": "projection.mlp.1.",
            "mlp.layers.1.": "projection.mlp.3.",
            "mlp.bns.1.": None,
            "fc.": "projection.fc.",
            "gpool.": "pooling.",
        },
    )


def grid_head_names(released: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A released grid encoder's head under our names."""
    return _rename(released, {"fc.": "projection.", "gpool.": "pooling."})


def bert_names(released: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A released BERT text encoder's weights under our names; BERT's pooler and position ids stay out."""
    return _rename(
        released,
        {
            "bert.pooler.": None,
            "bert.embeddings.position_ids": None,
            "bert.": "backbone.network.",
            "linear.": "projection.",
            "gpool.": "pooling.",
        },
    )


def bigru_names(released: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A released BiGRU text encoder's weights under our names."""
    return _rename(released, {"embed.": "backbone.embed.", "rnn.": "backbone.rnn.", "gpool.": "pooling."})


def _rename(released: Mapping[str, Tensor], prefixes: Mapping[str, str | None]) -> dict[str, Tensor]:
    """Replace the first prefix that fits each name; None leaves the weight out.

    Raises:
        VSEError: if no prefix fits a name.
    """
    renamed: dict[str, Tensor] = {}
    for name, value in released.items():
        prefix = next((prefix for prefix in prefixes if name.startswith(prefix)), None)
        if prefix is None:
            raise VSEError(f"weight {name} belongs to no released encoder of this kind, expected {', '.join(prefixes)}")
        replacement = prefixes[prefix]
        if replacement is not None:
            renamed[replacement + name.removeprefix(prefix)] = value
    return renamed
