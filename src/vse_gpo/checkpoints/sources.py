"""Load a model from any source that holds one."""

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from vse_gpo.checkpoints.dual import CONFIG as OTHERS_CONFIG
from vse_gpo.checkpoints.dual import check_dual, is_foreign, load_dual
from vse_gpo.checkpoints.own import own_place, read_checkpoint, read_folder, trained_model, trained_weights
from vse_gpo.checkpoints.released import BERT, released_model, released_weights
from vse_gpo.model import SETTINGS, VSE, WEIGHTS, build_model
from vse_gpo.storage.hub import check_pretrained, fetch, is_path
from vse_gpo.storage.weights import check_values

OPEN_CLIP, OPEN_CLIP_CONFIG = ("open_clip:", "hf-hub:", "local-dir:"), "open_clip_config.json"
SMALL = ("*.json", "*.txt", "*.model")  # files of a model on the hub beside its weights
OTHERS_WEIGHTS = [  # safetensors first
    ("model.safetensors", "model-*.safetensors", "*/model.safetensors", "*/model-*.safetensors"),
    ("pytorch_model*.bin", "*/pytorch_model*.bin"),
]
OPEN_CLIP_WEIGHTS = [("open_clip*.safetensors",), ("open_clip*.bin",)]


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
        _, weights = read_folder(place)
    elif place.is_dir():
        weights = load_folder(place).state_dict()
    else:
        checkpoint, trained_here = read_checkpoint(place)
        weights = trained_weights(checkpoint) if trained_here else released_weights(checkpoint, place)
    check_values(weights)
    return weights


def _place(source: str | Path) -> Path:
    """The file or folder that holds the model; a model of the hub is fetched."""
    path = Path(source).expanduser()
    if path.is_dir():
        return own_place(path)
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
    checkpoint, trained_here = read_checkpoint(Path(path))
    if trained_here:
        return trained_model(checkpoint)
    return released_model(
        checkpoint,
        path,
        tokenizer=BERT if tokenizer is None else str(tokenizer),
        vocabulary=None if vocabulary is None else str(vocabulary),
    )


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
    return build_model(*read_folder(folder), folder)
