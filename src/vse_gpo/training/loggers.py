"""A Weights & Biases logger for runs."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

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
    log_model: bool | Literal["all"],
    config: dict[str, Any] | None,
    best: Mapping[str, Sequence[str]],
) -> WandbLogger:
    """Start or resume a W&B run at once.

    Args:
        project, name, group, tags: how W&B lists the run.
        id: run id; a run that W&B knows is resumed.
        save_dir: parent of the folder ``wandb``.
        offline: write only to that folder.
        log_model: upload the checkpoints at the end, as an artifact; not offline.
        config: settings that the run was started with.
        best: ``max`` or ``min`` → the metrics summarised by it instead of by their last value.
    """
    logger = WandbLogger(
        project=project,
        name=name,
        group=group,
        tags=[*dict.fromkeys(tags)],  # each once
        id=id,
        save_dir=save_dir,
        offline=offline,
        log_model=log_model,
        config=config,
    )
    for summary, metrics in best.items():
        for metric in metrics:
            logger.experiment.define_metric(metric, step_metric="trainer/global_step", summary=summary)
    return logger
