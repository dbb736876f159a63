"""Weights & Biases as a run needs it."""

from collections.abc import Mapping, Sequence
from typing import Any

from pytorch_lightning.loggers import WandbLogger


def wandb_run(
    *,
    project: str,
    name: str,
    group: str | None,
    tags: Sequence[str],
    id: str,
    save_dir: str,
    offline: bool,
    log_model: bool | str,
    config: dict[str, Any] | None,
    best: Mapping[str, Sequence[str]],
) -> WandbLogger:
    """A W&B run that begins, or goes on, at once.

    Args:
        project, name, group, tags: where it is found.
        id: of the run; one that W&B knows goes on.
        save_dir: gets the folder ``wandb``.
        offline: write it there alone.
        log_model: upload the checkpoints at the end, as an artifact; not offline.
        config: what the run was started with.
        best: ``max`` or ``min`` → the metrics whose summary is that, in place of the last value.
    """
    logger = WandbLogger(
        project=project,
        name=name,
        group=group,
        tags=[*dict.fromkeys(tags)],  # each once
        id=id,
        save_dir=save_dir,
        offline=offline,
        log_model=log_model,  # type: ignore[arg-type]
        config=config,
    )
    for summary, metrics in best.items():
        for metric in metrics:
            logger.experiment.define_metric(metric, step_metric="trainer/global_step", summary=summary)
    return logger
