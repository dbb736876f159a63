"""Convert any model to a folder of ``save_pretrained``: settings, weights (safetensors), tokeniser and card."""

from pathlib import Path

from vse_gpo.checkpoints.interpolation import interpolate
from vse_gpo.checkpoints.sources import load_model
from vse_gpo.checkpoints.trunk import with_trunk
from vse_gpo.errors import VSEError
from vse_gpo.storage.card import metrics_of_checkpoint, model_card, read_metrics
from vse_gpo.storage.writing import check_new


def convert(
    *,
    model: str,
    out: str,
    tokenizer: str | None,
    vocabulary: str | None,
    trunk: str | None,
    metrics: str | None,
    start: str | None = None,
    alpha: float | None = None,
) -> None:
    """Write the folder, completely or not at all.

    Args:
        model, tokenizer, vocabulary: see ``load_model``.
        out: new folder.
        trunk: for a model trained on features of ``vse-extract``: the trunk next to them, so that it reads images.
        metrics: a run's ``metrics.json`` for the card; None uses that of the checkpoint's run, if tested.
        start: another state of the model, which it is moved back towards, see ``interpolate``; its card then has no
            scores by itself.
        alpha: share of the model's own weights, with ``start``.

    Raises:
        VSEError: if there is no model, the folder exists, or only one of ``start`` and ``alpha`` is given.
    """
    if (start is None) != (alpha is None):
        given = f"alpha={alpha}" if start is None else f"start={start}"
        raise VSEError(f"{given}: weights are interpolated by start and alpha; set both, or neither")
    source, folder = Path(model).expanduser(), Path(out).expanduser()
    check_new(folder)
    if metrics is not None:
        scores = read_metrics(Path(metrics).expanduser())
    else:
        scores = metrics_of_checkpoint(source) if start is None else {}
    loaded = load_model(model, tokenizer=tokenizer, vocabulary=vocabulary)
    if start is not None and alpha is not None:
        interpolate(loaded, start, alpha=alpha)
    if trunk is not None:
        loaded = with_trunk(loaded, trunk)
    loaded.save_pretrained(folder, card=model_card(folder.name, loaded.architecture(), scores))
    print(f"written to {out}")
