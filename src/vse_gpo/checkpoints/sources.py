"""Load a model from any source that holds one."""

import argparse
import json
from pathlib import Path
from typing import Any

from huggingface_hub import snapshot_download
from safetensors import SafetensorError

from vse_gpo.checkpoints.pickles import model_weights, read_pickle
from vse_gpo.checkpoints.released import BERT, released_model
from vse_gpo.errors import VSEError, first_line
from vse_gpo.model import SETTINGS, VSE, WEIGHTS, build_model
from vse_gpo.storage.hub import check_pretrained, is_path
from vse_gpo.storage.settings import CONFIG
from vse_gpo.storage.weights import read_whole_weights

BEST = Path("checkpoints", "best.ckpt")  # in a run's folder
EXPECTED = "expected runs/…/checkpoints/best.ckpt or a released model_best.pth"


def load_model(source: str | Path, *, tokenizer: str | Path | None = None, vocabulary: str | Path | None = None) -> VSE:
    """Load a model in eval mode from any source that holds one.

    Args:
        source: a training checkpoint or its run's folder, a released file, a folder that ``save_pretrained`` wrote,
            or a Hugging Face hub id. Files are told apart by what they hold, whatever their suffix.
        tokenizer, vocabulary: see ``released_model``; None takes BERT's tokeniser, and no vocabulary.

    Raises:
        VSEError: if the source holds no model.
    """
    path = Path(source).expanduser()
    if path.is_dir():
        is_run = not (path / SETTINGS).is_file() and ((path / BEST).is_file() or (path / CONFIG).is_file())
        return load_checkpoint(path / BEST) if is_run else load_folder(path)
    if path.is_file() or is_path(str(source)):
        return load_checkpoint(path, tokenizer=tokenizer, vocabulary=vocabulary)
    check_pretrained(str(source), "model", SETTINGS)
    return load_folder(Path(snapshot_download(str(source), allow_patterns=["*.json", "*.txt", WEIGHTS])))


def load_checkpoint(
    path: str | Path, *, tokenizer: str | Path | None = None, vocabulary: str | Path | None = None
) -> VSE:
    """Load the model in a training checkpoint or a released file.

    Raises:
        VSEError: if the file is neither.
    """
    if Path(path).suffix == ".safetensors":
        raise VSEError(f"{path}: weights without settings, expected the folder that save_pretrained wrote; name it")
    checkpoint: Any = read_pickle(path, [argparse.Namespace])
    keys = [*checkpoint] if isinstance(checkpoint, dict) else []
    if "state_dict" in keys and isinstance(settings := checkpoint.get("settings"), dict) and "model" in settings:
        return build_model(settings["model"], model_weights(checkpoint["state_dict"]))
    if "model" in keys or Path(path).suffix in (".pth", ".tar"):
        return released_model(
            checkpoint,
            path,
            tokenizer=BERT if tokenizer is None else str(tokenizer),
            vocabulary=None if vocabulary is None else str(vocabulary),
        )
    held = ", ".join(map(str, keys[:4])) or type(checkpoint).__name__
    raise VSEError(f"{path}: not a training checkpoint, {EXPECTED}, found {held}")


def load_folder(folder: Path) -> VSE:
    """Load the model in a folder that ``save_pretrained`` wrote.

    Raises:
        VSEError: if there is none, or its files are damaged.
    """
    try:
        settings = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
        weights = read_whole_weights(folder / WEIGHTS)
    except VSEError:
        raise
    except (OSError, ValueError, RecursionError, SafetensorError) as error:
        raise VSEError(
            f"{folder}: not a saved model ({first_line(error)}), expected {SETTINGS} and {WEIGHTS} as save_pretrained "
            f"writes them, or a run with {BEST.as_posix()}"
        ) from error
    return build_model(settings, weights, folder)
