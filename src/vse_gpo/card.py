"""Model cards: what a model is, how it is used and what it scores, as the Hugging Face hub shows it."""

import json
import re
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


def read_metrics(path: Path) -> dict[str, dict[str, float]]:
    """What a run scored in its test, from its ``metrics.json``.

    Raises:
        VSEError: if the file holds no test of a run.
    """
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        tested = {match.groups(): float(found[key]) for key in found if (match := re.fullmatch(r"test/(.+)/(.+)", key))}
    except (OSError, ValueError, TypeError) as error:
        raise VSEError(f"{path}: cannot be read ({first_line(error)}), expected a run's metrics.json") from error
    if not tested:
        raise VSEError(f"{path}: no test metrics in it, expected a run's metrics.json")
    metrics: dict[str, dict[str, float]] = {}
    for (protocol, name), value in tested.items():
        metrics.setdefault(protocol, {})[name] = value
    return metrics


def metrics_of_checkpoint(checkpoint: Path) -> dict[str, dict[str, float]]:
    """What the run of a checkpoint scored, if it was this one that was tested; else nothing."""
    if checkpoint.suffix != ".ckpt":
        return {}
    path = checkpoint.absolute().parent.parent / "metrics.json"
    if not path.is_file():
        return {}
    try:
        tested = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise VSEError(f"{path}: cannot be read ({first_line(error)}), expected a run's metrics.json") from error
    if Path(str(tested.get("best_checkpoint"))).name != checkpoint.name or not any("test/" in key for key in tested):
        return {}
    return read_metrics(path)
