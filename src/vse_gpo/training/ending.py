"""The test of a run's best checkpoint: its metrics, its table, and what every query found."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from rich import get_console

from vse_gpo.evaluation.query_files import QUERIES, Evaluated, write_queries
from vse_gpo.evaluation.results import Result, tables
from vse_gpo.retrieval.recalls import Outcome
from vse_gpo.retrieval.uncertainty import bootstrap_intervals
from vse_gpo.training.callbacks.progress import print_line
from vse_gpo.training.module import RetrievalModule
from vse_gpo.training.run_folder import write_metrics


def tested(trainer: pl.Trainer, module: RetrievalModule, data: pl.LightningDataModule, best: str) -> dict[str, float]:
    """Test metrics of the best checkpoint; ``module.tested`` has the outcomes."""
    trainer.test(module, datamodule=data, ckpt_path=best, verbose=False, weights_only=True)
    return {key: float(value) for key, value in trainer.callback_metrics.items() if key.startswith("test/")}


def report_run(
    trainer: pl.Trainer, module: RetrievalModule, folder: Path, results: Mapping[str, Any], name: str, seed: int
) -> None:
    """Write ``metrics.json`` and, after a test, ``queries.npz``; print the tables of the test.

    Args:
        trainer, module: after the training, and the test if there was one.
        folder: the run's folder.
        results: metrics of the run.
        name: of the run, for the tables.
        seed: seed of the intervals.
    """
    if not trainer.is_global_zero:
        return
    best = torch.load(results["best_checkpoint"], mmap=True, weights_only=True)  # reads no weights
    if module.tested:
        split, outcomes = module.split("test"), module.tested[""]
        write_queries(
            folder / QUERIES, Evaluated(images=len(split.images), image_ids=split.image_ids, outcomes=outcomes)
        )
    write_metrics(folder, {**results, "best_epoch": best["epoch"], "best_step": best["global_step"]})
    if module.tested:
        for table in tables(rows_of_test(module.tested, len(split.images), name, seed)):
            get_console().print(table)
        protocol = next(iter(outcomes))
        print_line(trainer, f"test rsum: {outcomes[protocol].metrics()['rsum']:.1f} ({protocol})")


def rows_of_test(outcomes: Mapping[str, Mapping[str, Outcome]], images: int, name: str, seed: int) -> list[Result]:
    """Rows of the tables: the run's model, and what was tested beside it, such as ``ema``.

    Args:
        outcomes: prefix of the metrics' names → protocol → outcome.
        images: number of images of the split.
        name: of the run's model.
        seed: seed of the intervals.
    """
    return [
        Result(
            source=prefix.rstrip("/") or name,
            protocol=protocol,
            variant="",
            outcome=outcome,
            intervals=bootstrap_intervals(outcome, images, np.random.default_rng(seed)),
            published={},
        )
        for prefix, of_model in outcomes.items()
        for protocol, outcome in of_model.items()
    ]
