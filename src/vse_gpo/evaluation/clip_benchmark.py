"""Results in the form of LAION's CLIP_benchmark, which its ``clip_benchmark build`` gathers with those of other models.

https://github.com/LAION-AI/CLIP_benchmark: one JSON file for each model and data set.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vse_gpo.evaluation.results import Result
from vse_gpo.retrieval.protocols import PLUS
from vse_gpo.retrieval.recalls import CUTS
from vse_gpo.storage.writing import write_text

TASK, LANGUAGE = "zeroshot_retrieval", "en"  # its only task of retrieval, whatever the model was trained on
DATASETS = {"coco_5k": "mscoco_captions", "f30k_1k": "flickr30k", "f8k_1k": "flickr8k"}  # protocol → its name
DIRECTIONS = {"image_retrieval": "t2i", "text_retrieval": "i2t"}  # what is retrieved → direction


def benchmark_row(result: Result, pretrained: str) -> dict[str, Any] | None:
    """A result as CLIP_benchmark writes it, recalls from 0 to 1; None without recalls of both directions.

    Protocols that CLIP_benchmark does not have, and those with a correction, keep a name of their own as data set.

    Args:
        result: of a source by a protocol.
        pretrained: where its model came from, as it was typed.
    """
    base, plus, correction = result.protocol.partition(PLUS)
    names = {f"{kind}_recall@{k}": f"{direction}_r{k}" for k in CUTS for kind, direction in DIRECTIONS.items()}
    metrics = result.metrics
    if not metrics.keys() >= set(names.values()):
        return None
    return {
        "dataset": f"{DATASETS.get(base, base)}{plus}{correction}",
        "model": result.source,
        "pretrained": pretrained,
        "task": TASK,
        "metrics": {name: metrics[ours] / 100 for name, ours in names.items()},
        "language": LANGUAGE,
    }


def write_benchmark(folder: Path, results: Sequence[Result], places: Mapping[str, str]) -> None:
    """Write a file for each result with recalls of both directions.

    Args:
        folder: a folder for these files only: ``clip_benchmark build`` reads all of it.
        results: results of every source and protocol.
        places: source → checkpoint or file, as it was typed.
    """
    for result in results:
        row = benchmark_row(result, places[result.source])
        if row is not None:
            name = "_".join(row[part] for part in ("dataset", "model", "language", "task"))
            write_text(folder / f"{name}.json", json.dumps(row) + "\n")
