"""Model cards: what a model is, how it is used and what it scores, as the Hugging Face hub shows it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from vse_gpo.errors import VSEError, first_line

Results = Mapping[str, Mapping[str, float]]  # protocol → metric → value

TEXT = """
# {name}

An image-text retrieval model of the kind VSE∞ (Chen et al., "Learning the Best Pooling Strategy for Visual Semantic
Embedding", CVPR 2021). It maps pictures and captions to unit embeddings; their dot product tells how well they fit.

| | image | text |
|---|---|---|
| backbone | {image_backbone} | {text_backbone} |
| pooling | {image_pooling} | {text_pooling} |

```python
from vse_gpo import VSE

model = VSE.from_pretrained("{name}")
images = model.encode_images(["a.jpg", "b.jpg"])  # unit embeddings (n, E)
captions = model.encode_captions(["a dog runs on a beach"])
similarity = images @ captions.T
```
"""


def model_card(name: str, settings: Mapping[str, Any], metrics: Results) -> ModelCard:
    """A card with every metric as a result of the model.

    Args:
        name: of the model: a hub id, or a folder.
        settings: of the model, as ``VSE.architecture`` gives them.
        metrics: that it scores, in percent where they are recalls.
    """
    results = [
        EvalResult(
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
    data = ModelCardData(
        model_name=name.rpartition("/")[2], library_name="vse_gpo", tags=["image-text-retrieval"], eval_results=results
    )
    parts = {
        f"{side}_{part}": str(settings[f"{side}_encoder"][part].get("_target_")).rpartition(".")[2]
        for side in ("image", "text")
        for part in ("backbone", "pooling")
    }
    return ModelCard(f"---\n{data.to_yaml()}\n---\n{TEXT.format(name=name, **parts)}{_table(metrics)}")


def _table(metrics: Results) -> str:
    lines = [f"| {protocol} | {name} | {value:.2f} |" for protocol, of in metrics.items() for name, value in of.items()]
    return "\n".join(["\n| protocol | metric | |\n|---|---|---|", *lines, ""]) if lines else ""


def tested_scores(results: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Protocol → metric → value, of what stands as ``test/PROTOCOL/METRIC`` in a run's results.

    The protocols of averaged weights, which the run tested as well, begin with ``ema/``.
    """
    scores: dict[str, dict[str, float]] = {}
    for key, value in results.items():
        if key.startswith("test/"):
            protocol, _, metric = key.removeprefix("test/").rpartition("/")
            scores.setdefault(protocol, {})[metric] = float(value)
    return scores


def read_metrics(path: Path) -> dict[str, dict[str, float]]:
    """What a run's best checkpoint scored in its test, from its ``metrics.json``.

    Raises:
        VSEError: if the file holds no test of a run.
    """
    metrics = _of(_tested(path)[1], "")
    if not metrics:
        raise VSEError(f"{path}: no test metrics in it, expected a run's metrics.json")
    return metrics


def metrics_of_checkpoint(checkpoint: Path) -> dict[str, dict[str, float]]:
    """What a checkpoint scored if its run tested it: the best one, or ``best_ema.ckpt`` of averaged weights."""
    path = checkpoint.absolute().parent.parent / "metrics.json"
    if checkpoint.suffix != ".ckpt" or not path.is_file():
        return {}
    best, scores = _tested(path)
    return _of(scores, checkpoint.stem.removeprefix(best.stem).removeprefix("_"))


def _tested(path: Path) -> tuple[Path, dict[str, dict[str, float]]]:
    """The best checkpoint of a run, and what it and its averages scored."""
    try:
        results: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return Path(str(results.get("best_checkpoint"))), tested_scores(results)
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise VSEError(f"{path}: cannot be read ({first_line(error)}), expected a run's metrics.json") from error


def _of(scores: Mapping[str, Mapping[str, float]], weights: str) -> dict[str, dict[str, float]]:
    """The scores of one set of weights, by the bare name of the protocol."""
    parts = {protocol: protocol.rpartition("/") for protocol in scores}
    return {name: dict(scores[protocol]) for protocol, (of, _, name) in parts.items() if of == weights}
