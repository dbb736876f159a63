"""A model from whatever holds one."""

from pathlib import Path

from vse_gpo.checkpoints.pickles import model_weights, read_pickle
from vse_gpo.checkpoints.released import BERT, load_released
from vse_gpo.errors import VSEError
from vse_gpo.model import VSE, build_model


def load_model(source: str | Path, *, tokenizer: str | None = None, vocabulary: str | None = None) -> VSE:
    """A model in eval mode from whatever holds one: a training's checkpoint, a released .pth file, a folder or hub id.

    Args:
        source: a file with the suffix .ckpt or .pth, a folder that ``save_pretrained`` wrote, or a hub id.
        tokenizer, vocabulary: see ``load_released``.

    Raises:
        VSEError: if the source holds no model.
    """
    suffix = Path(source).suffix
    if suffix == ".ckpt":
        return load_checkpoint(source)
    if suffix in (".pth", ".tar"):
        return load_released(source, tokenizer=tokenizer or BERT, vocabulary=vocabulary)
    return VSE.from_pretrained(source)


def load_checkpoint(path: str | Path) -> VSE:
    """The model in a training's checkpoint.

    Raises:
        VSEError: if the file is none.
    """
    checkpoint = read_pickle(path, [])
    try:
        settings, weights = checkpoint["settings"]["model"], checkpoint["state_dict"]
    except (KeyError, TypeError) as error:
        raise VSEError(f"{path}: no checkpoint of a training, expected runs/…/checkpoints/best.ckpt") from error
    return build_model(settings, model_weights(weights))
