"""Model cards, as the Hugging Face hub shows them: what a model is, how to use it, and its scores."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import huggingface_hub  # see ``hub``

from vse_gpo.errors import VSEError, first_line

Results = Mapping[str, Mapping[str, float]]  # protocol → metric → value

TEMPLATE = Path(__file__).with_name("card.md")


def model_card(name: str, settings: Mapping[str, Any], metrics: Results) -> "huggingface_hub.ModelCard":
    """Make a card that lists every metric as a result of the model.

    Args:
        name: hub id or folder of the model.
        settings: the model's settings, as ``VSE.architecture`` gives them.
        metrics: the model's scores; recalls in percent.
    """
    results = [
        huggingface_hub.EvalResult(
            task_type="image-text-retrieval",
            dataset_type=protocol,
            dataset_name=protocol,
            metric_type=metric,
            metric_name=metric,
            metric_value=round(value, 2),
        )
        for protocol, scored in metrics.items()
        for metric, value in scored.items()
    ]
    data = huggingface_hub.ModelCardData(
        model_name=name.rpartition("/")[2], library_name="vse_gpo", tags=["image-text-retrieval"], eval_results=results
    )
    parts = {
        f"{side}_{part}": str(settings[f"{side}_encoder"][part].get("_target_")).rpartition(".")[2]
        for side in ("image", "text")
        for part in ("backbone", "pooling")
    }
    template = str(TEMPLATE)
    return huggingface_hub.ModelCard.from_template(
        data, template_path=template, name=name, parts=parts, metrics=metrics
    )


def tested_scores(results: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Collect ``test/PROTOCOL/METRIC`` from a run's results as protocol → metric → value.

    The protocols of averaged weights, which the run also tests, begin with ``ema/``.
    """
    scores: dict[str, dict[str, float]] = {}
    for key, value in results.items():
        if key.startswith("test/"):
            protocol, _, metric = key.removeprefix("test/").rpartition("/")
            scores.setdefault(protocol, {})[metric] = float(value)
    return scores


def read_metrics(path: Path) -> dict[str, dict[str, float]]:
    """Read the test scores of a run's best checkpoint from the run's ``metrics.json``.

    Raises:
        VSEError: if the file holds no test scores of a run.
    """
    metrics = _of(_tested(path)[1], "")
    if not metrics:
        raise VSEError(f"{path}: no test metrics in it, expected a run's metrics.json")
    return metrics


def metrics_of_checkpoint(checkpoint: Path) -> dict[str, dict[str, float]]:
    """Test scores of a run's best checkpoint, or of ``best_ema.ckpt`` with averaged weights; empty for any other."""
    path = checkpoint.absolute().parent.parent / "metrics.json"
    if checkpoint.suffix != ".ckpt" or not path.is_file():
        return {}
    best, scores = _tested(path)
    return _of(scores, checkpoint.stem.removeprefix(best.stem).removeprefix("_"))


def _tested(path: Path) -> tuple[Path, dict[str, dict[str, float]]]:
    """The best checkpoint of a run, and the test scores of it and of its averaged weights."""
    try:
        results: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return Path(str(results.get("best_checkpoint"))), tested_scores(results)
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise VSEError(f"{path}: cannot be read ({first_line(error)}), expected a run's metrics.json") from error


def _of(scores: Mapping[str, Mapping[str, float]], weights: str) -> dict[str, dict[str, float]]:
    """The scores of one set of weights, by protocol without the prefix of the weights."""
    parts = {protocol: protocol.rpartition("/") for protocol in scores}
    return {name: dict(scores[protocol]) for protocol, (of, _, name) in parts.items() if of == weights}
