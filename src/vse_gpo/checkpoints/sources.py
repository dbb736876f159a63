"""Load a model from any source that holds one."""

from pathlib import Path

from vse_gpo.checkpoints.pickles import model_weights, read_pickle
from vse_gpo.checkpoints.released import BERT, load_released
from vse_gpo.errors import VSEError
from vse_gpo.model import VSE, build_model


def load_model(source: str | Path, *, tokenizer: str | None = None, vocabulary: str | None = None) -> VSE:
    """Load a model in eval mode: from a training checkpoint, a released .pth file, a saved folder or a hub id.

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
    """Load the model in a training checkpoint.

    Raises:
        VSEError: if the file is not a training checkpoint.
    """
    checkpoint = read_pickle(path, [])
    try:
        settings, weights = checkpoint["settings"]["model"], checkpoint["state_dict"]
    except (KeyError, TypeError) as error:
        raise VSEError(f"{path}: not a training checkpoint, expected runs/…/checkpoints/best.ckpt") from error
    return build_model(settings, model_weights(weights))
