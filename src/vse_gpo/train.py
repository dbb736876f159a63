"""python -m vse_gpo.train experiment=… : train a model, then test its best checkpoint."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from vse_gpo.commands import CONFIG, ignore_remarks, run_command
from vse_gpo.errors import VSEError
from vse_gpo.launch import lightning_starts_processes, wait_for
from vse_gpo.run_folder import (
    begun,
    checkpoint_to_go_on_from,
    finished,
    keep_logged,
    write_config,
    write_results,
)

if TYPE_CHECKING:
    import pytorch_lightning as pl

OBJECTIVE = "val/best_rsum"


def main() -> None:
    """The command."""
    run_command(train, "train")


def train(config: DictConfig) -> float:
    """Train as the config says; the run folder holds everything that comes of it.

    Started again in the same folder, a run goes on where it was interrupted; one that came to its end is left as it is.

    Returns:
        The best rSum on dev, the objective of a sweep.
    """
    settings: Any = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)  # an error in it needs no torch
    if "best" not in config.callbacks:
        raise VSEError("callbacks without best, whose checkpoint the test takes; add default: callbacks=[default,…]")
    hydra = HydraConfig.get()
    folder = Path(hydra.runtime.output_dir)
    goes_on = config.resume is None or begun(folder, settings)  # also where a run that was resumed is started again
    results = finished(folder, settings) if goes_on else None
    if results is not None:
        print(f"{folder}: finished before, val/best_rsum {results[OBJECTIVE]:.1f}; delete it to train again")
    elif hydra.mode == RunMode.MULTIRUN and lightning_starts_processes(config.trainer.devices):
        write_config(folder, settings)
        run_by_itself(folder)
        results = finished(folder, settings)
    else:
        results = _train(config, settings, folder, goes_on)
    objective: float = results[OBJECTIVE]  # type: ignore[index]
    return objective


def _train(config: DictConfig, settings: dict[str, Any], folder: Path, goes_on: bool) -> dict[str, Any]:
    """What stands in metrics.json."""
    import pytorch_lightning as pl
    from hydra.utils import instantiate
    from pytorch_lightning.utilities import rank_zero_only

    from vse_gpo.checkpoints import steps_taken
    from vse_gpo.retrieval.protocols import PROTOCOLS, check_protocols

    ignore_remarks()
    pl.seed_everything(config.seed, workers=True, verbose=False)
    start, taken = checkpoint_to_go_on_from(folder) if goes_on else None, None
    if start is None and config.resume is not None:
        start, taken = config.resume, steps_taken(config.resume, config.trainer.max_epochs)

    data = instantiate(config.data)
    for stage in ("fit", "test") if config.test else ("fit",):
        data.setup(stage)  # bad test data stop a run now, and not after the training
    if config.test:
        check_protocols(config.dataset.test_protocols, len(data.split("test").images), PROTOCOLS)
    module = instantiate(config.module)(settings=settings)
    rank_zero_only(write_config)(folder, settings)
    rank_zero_only(keep_logged)(folder)
    with own_wandb_run():
        trainer: pl.Trainer = instantiate(
            config.trainer,
            callbacks=[instantiate(callback) for callback in config.callbacks.values()],
            logger=[instantiate(logger) for logger in config.logger.values()],
            default_root_dir=str(folder),
            plugins=[instantiate(config.checkpoint_io)],
        )
        trainer.fit(module, datamodule=data, ckpt_path=start, weights_only=True)
        results = _best_of_dev(trainer, taken)
        if config.test:
            trainer.test(
                module, datamodule=data, ckpt_path=results["best_checkpoint"], verbose=False, weights_only=True
            )
            results |= {key: float(value) for key, value in trainer.callback_metrics.items() if key.startswith("test/")}
    if trainer.is_global_zero:
        write_results(folder, results)
        if config.test:
            protocol = config.dataset.test_protocols[0]
            print(f"test rsum: {results[f'test/{protocol}/rsum']:.1f} ({protocol})")
    return results


def run_by_itself(folder: Path) -> None:
    """Run the job whose config lies in the folder by a command of its own.

    Lightning starts a run's other processes by the command that was typed. In a sweep that is the whole sweep's, and
    only the first job would get its processes.
    """
    quoted = str(folder).replace("'", r"\'")
    config = ["--config-dir", str(folder), "--config-name", Path(CONFIG).stem]
    of_hydra = [f"hydra.run.dir='{quoted}'", "hydra.output_subdir=null", "hydra/job_logging=quiet"]
    wait_for([sys.executable, "-m", "vse_gpo.train", *config, *of_hydra])


@contextmanager
def own_wandb_run() -> Iterator[None]:
    """Ends a job's W&B run with the job, so that the next job of a sweep begins one of its own."""
    try:
        yield
    finally:
        if "wandb" in sys.modules:
            sys.modules["wandb"].finish(exit_code=int(sys.exc_info()[0] is not None))


def written_config(path: str) -> dict[str, Any] | None:
    """What the first process wrote, for its logger; None in the others, which may be here before it."""
    from pytorch_lightning.utilities import rank_zero_only

    read = rank_zero_only(lambda: OmegaConf.to_container(OmegaConf.load(path)))
    config: Any = read()
    return config


def _best_of_dev(trainer: "pl.Trainer", taken: int | None) -> dict[str, Any]:
    """The best epoch's rSum on dev and its checkpoint.

    Args:
        trainer: after the training.
        taken: the steps of the checkpoint that a new run went on from.

    Raises:
        VSEError: if there was no step left to train, or no epoch came to its end.
    """
    best = trainer.checkpoint_callback
    if trainer.global_step == taken:
        raise VSEError(
            f"nothing to train: the run had come to its end, epoch {trainer.current_epoch} of {trainer.max_epochs}; "
            "set trainer.max_epochs to go on"
        )
    if best.best_model_score is None:  # type: ignore[union-attr]
        raise VSEError(
            f"no epoch to test: none was validated up to step {trainer.global_step}; train at least one whole epoch"
        )
    return {
        OBJECTIVE: float(best.best_model_score),  # type: ignore[union-attr]
        "best_checkpoint": best.best_model_path,  # type: ignore[union-attr]
        "epochs": trainer.current_epoch,
    }


if __name__ == "__main__":
    main()
