"""Load a model from any source that holds one."""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from torch import Tensor

from vse_gpo.checkpoints.dual import CONFIG as OTHERS_CONFIG
from vse_gpo.checkpoints.dual import check_dual, is_foreign, load_dual
from vse_gpo.checkpoints.pickles import model_weights, read_pickle
from vse_gpo.checkpoints.released import BERT, released_model, released_weights
from vse_gpo.errors import VSEError, first_line
from vse_gpo.model import SETTINGS, VSE, WEIGHTS, build_model
from vse_gpo.storage.adapters import merged_weights
from vse_gpo.storage.hub import check_pretrained, fetch, is_path
from vse_gpo.storage.settings import CONFIG
from vse_gpo.storage.weights import check_values, read_whole_weights

OPEN_CLIP, OPEN_CLIP_CONFIG = ("open_clip:", "hf-hub:", "local-dir:"), "open_clip_config.json"
SMALL = ("*.json", "*.txt", "*.model")  # files of a model on the hub beside its weights
OTHERS_WEIGHTS = [  # safetensors first
    ("model.safetensors", "model-*.safetensors", "*/model.safetensors", "*/model-*.safetensors"),
    ("pytorch_model*.bin", "*/pytorch_model*.bin"),
]
OPEN_CLIP_WEIGHTS = [("open_clip*.safetensors",), ("open_clip*.bin",)]
BEST = Path("checkpoints", "best.ckpt")  # in a run's folder
EXPECTED = "expected runs/…/checkpoints/best.ckpt or a released model_best.pth"


def load_model(source: str | Path, *, tokenizer: str | Path | None = None, vocabulary: str | Path | None = None) -> VSE:
    """Load a model in eval mode from any source that holds one.

    Args:
        source: a training checkpoint or its run's folder, a released file, a folder that ``save_pretrained`` wrote,
            a Hugging Face hub id, or CLIP, SigLIP and their kind: a folder or hub id of transformers or
            sentence-transformers, or ``open_clip:NAME/TAG``, ``hf-hub:ID`` or a folder of open_clip. Files are told
            apart by what they hold, whatever their suffix.
        tokenizer, vocabulary: see ``released_model``; None takes BERT's tokeniser, and no vocabulary.

    Raises:
        VSEError: if the source holds no model.
    """
    if str(source).startswith(OPEN_CLIP):
        return _from_open_clip(str(source))
    place = _place(source)
    return load_folder(place) if place.is_dir() else load_checkpoint(place, tokenizer=tokenizer, vocabulary=vocabulary)


def saved_weights(source: str | Path) -> dict[str, Tensor]:
    """The weights of a model, by name, from any source that holds one; no vocabulary is needed.

    Args:
        source: see ``load_model``.

    Raises:
        VSEError: if the source holds no model, or weights that no training ends with.
    """
    if str(source).startswith(OPEN_CLIP):
        return _from_open_clip(str(source)).state_dict()
    place = _place(source)
    if (place / SETTINGS).is_file():
        _, weights = _read_folder(place)
    elif place.is_dir():
        weights = load_folder(place).state_dict()
    else:
        checkpoint, trained_here = _read_checkpoint(place)
        weights = _trained_weights(checkpoint) if trained_here else released_weights(checkpoint, place)
    check_values(weights)
    return weights


def _place(source: str | Path) -> Path:
    """The file or folder that holds the model; a model of the hub is fetched."""
    path = Path(source).expanduser()
    if path.is_dir():
        is_run = not (path / SETTINGS).is_file() and ((path / BEST).is_file() or (path / CONFIG).is_file())
        return path / BEST if is_run else path
    if path.is_file() or is_path(str(source)):
        return path
    return fetched(str(source))


def fetched(name: str, setting: str = "model") -> Path:
    """The folder of a model of the hub: its small files first, which tell whether it is one and what its weights are.

    Args:
        name: hub id.
        setting: setting that gave the name, for messages.

    Raises:
        VSEError: if the hub has no such model or does not give it, or it is of another kind.
    """
    check_pretrained(name, setting, SETTINGS, OTHERS_CONFIG, OPEN_CLIP_CONFIG)
    folder = fetch(name, setting, SMALL)
    weights: Sequence[tuple[str, ...]] = [(WEIGHTS,)]
    if not (folder / SETTINGS).is_file():
        if is_foreign(folder):
            check_dual(folder)
            weights = OTHERS_WEIGHTS
        elif (folder / OPEN_CLIP_CONFIG).is_file():
            weights = OPEN_CLIP_WEIGHTS
    for patterns in weights:
        folder = fetch(name, setting, [*SMALL, *patterns])
        if any(path.match(pattern) for path in folder.rglob("*") for pattern in patterns):
            break
    return folder


def _from_open_clip(source: str) -> VSE:
    from vse_gpo.checkpoints.open_clip import load_open_clip  # noqa: PLC0415, an extra

    return load_open_clip(source)


def load_checkpoint(
    path: str | Path, *, tokenizer: str | Path | None = None, vocabulary: str | Path | None = None
) -> VSE:
    """Load the model in a training checkpoint or a released file.

    Raises:
        VSEError: if the file is neither.
    """
    checkpoint, trained_here = _read_checkpoint(Path(path))
    if trained_here:
        return build_model(checkpoint["settings"]["model"], _trained_weights(checkpoint))
    return released_model(
        checkpoint,
        path,
        tokenizer=BERT if tokenizer is None else str(tokenizer),
        vocabulary=None if vocabulary is None else str(vocabulary),
    )


def _read_checkpoint(path: Path) -> tuple[Any, bool]:
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


def _trained_weights(checkpoint: Mapping[str, Any]) -> dict[str, Tensor]:
    """The model's weights from a training, the adapters merged that it may have had."""
    return merged_weights(model_weights(checkpoint["state_dict"]))


def load_folder(folder: Path) -> VSE:
    """Load the model in a folder that ``save_pretrained`` wrote.

    Raises:
        VSEError: if there is none, or its files are damaged.
    """
    if not (folder / SETTINGS).is_file():
        if is_foreign(folder):
            return load_dual(folder)
        if (folder / OPEN_CLIP_CONFIG).is_file():
            return _from_open_clip(f"local-dir:{folder}")
    return build_model(*_read_folder(folder), folder)


def _read_folder(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
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
