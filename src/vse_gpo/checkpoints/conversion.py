"""Convert any model to a folder of ``save_pretrained``: settings, weights (safetensors), tokeniser and card."""

from pathlib import Path

from vse_gpo.checkpoints.sources import load_model
from vse_gpo.checkpoints.trunk import with_trunk
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
) -> None:
    """Write the folder, completely or not at all.

    Args:
        model, tokenizer, vocabulary: see ``load_model``.
        out: new folder.
        trunk: for a model trained on features of ``vse-extract``: the trunk next to them, so that it reads images.
        metrics: a run's ``metrics.json`` for the card; None uses that of the checkpoint's run, if tested.

    Raises:
        VSEError: if there is no model, or the folder exists.
    """
    source, folder = Path(model).expanduser(), Path(out).expanduser()
    check_new(folder)
    scores = metrics_of_checkpoint(source) if metrics is None else read_metrics(Path(metrics).expanduser())
    loaded = load_model(model, tokenizer=tokenizer, vocabulary=vocabulary)
    if trunk is not None:
        loaded = with_trunk(loaded, trunk)
    loaded.save_pretrained(folder, card=model_card(folder.name, loaded.architecture(), scores))
    print(f"written to {out}")
