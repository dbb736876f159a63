"""Models that this package wrote: runs, their checkpoints, and folders of ``save_pretrained``."""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from torch import Tensor

from vse_gpo.checkpoints.pickles import model_weights, read_pickle
from vse_gpo.errors import VSEError, first_line
from vse_gpo.model import SETTINGS, VSE, WEIGHTS, build_model
from vse_gpo.storage.adapters import merged_weights
from vse_gpo.storage.settings import CONFIG
from vse_gpo.storage.weights import read_whole_weights

BEST = Path("checkpoints", "best.ckpt")  # in a run's folder
EXPECTED = "expected runs/…/checkpoints/best.ckpt or a released model_best.pth"


def load_own(source: str | Path) -> VSE | None:
    """Load a model in eval mode that this package wrote; None if the source is no file or folder, or of another kind.

    Args:
        source: see ``vse_gpo.checkpoints.sources.load_model``.

    Raises:
        VSEError: if it is a damaged file, or a folder with damaged files.
    """
    place = own_place(Path(source).expanduser())
    if place.is_dir():
        return build_model(*read_folder(place), place) if (place / SETTINGS).is_file() else None
    if not place.is_file():
        return None
    checkpoint, trained_here = read_checkpoint(place)
    return trained_model(checkpoint) if trained_here else None


def own_place(path: Path) -> Path:
    """The checkpoint of a run's folder; any other path itself."""
    is_run = not (path / SETTINGS).is_file() and ((path / BEST).is_file() or (path / CONFIG).is_file())
    return path / BEST if path.is_dir() and is_run else path


def read_checkpoint(path: Path) -> tuple[Any, bool]:
    """What a file holds, and whether a training of this package wrote it; otherwise it may be a released file."""
    if path.suffix == ".safetensors":
        raise VSEError(f"{path}: weights without settings, expected the folder that save_pretrained wrote; name it")
    checkpoint: Any = read_pickle(path, [argparse.Namespace])
    keys = [*checkpoint] if isinstance(checkpoint, dict) else []
    if "state_dict" in keys and isinstance(settings := checkpoint.get("settings"), dict) and "model" in settings:
        return checkpoint, True
    if "model" in keys or path.suffix in (".pth", ".tar"):
        return checkpoint, False
    held = ", ".join(map(str, keys[:4])) or type(checkpoint).__name__
    raise VSEError(f"{path}: not a training checkpoint, {EXPECTED}, found {held}")


def trained_model(checkpoint: Mapping[str, Any]) -> VSE:
    """The model in a training checkpoint."""
    return build_model(checkpoint["settings"]["model"], trained_weights(checkpoint))


def trained_weights(checkpoint: Mapping[str, Any]) -> dict[str, Tensor]:
    """The model's weights from a training, the adapters merged that it may have had."""
    return merged_weights(model_weights(checkpoint["state_dict"]))


def read_folder(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Settings and weights that ``save_pretrained`` wrote."""
    try:
        return json.loads((folder / SETTINGS).read_text(encoding="utf-8")), read_whole_weights(folder / WEIGHTS)
    except VSEError:
        raise
    except (OSError, ValueError, RecursionError, SafetensorError) as error:
        raise VSEError(
            f"{folder}: not a saved model ({first_line(error)}), expected {SETTINGS} and {WEIGHTS} as save_pretrained "
            f"writes them, or a run with {BEST.as_posix()}"
        ) from error
