"""python -m vse_gpo.train experiment=… : train a model, then test its best checkpoint."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from vse_gpo.commands import ignore_remarks, run_command
from vse_gpo.errors import VSEError

if TYPE_CHECKING:
    import pytorch_lightning as pl


def main() -> None:
    """The command."""
    run_command(train, "train")


def train(config: DictConfig) -> None:
    """Train as the config says; the run folder holds everything that comes of it."""
    settings = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)  # an error in it needs no torch
    if "best" not in config.callbacks:
        raise VSEError("callbacks without best, whose checkpoint the test takes; add default: callbacks=[default,…]")

    import pytorch_lightning as pl
    from hydra.core.hydra_config import HydraConfig
    from hydra.utils import instantiate
    from pytorch_lightning.utilities import rank_zero_only

    from vse_gpo.checkpoints import AtomicCheckpoints, check_readable

    folder = Path(HydraConfig.get().runtime.output_dir)
    ignore_remarks()
    pl.seed_everything(config.seed, workers=True, verbose=False)
    if config.resume is not None:
        check_readable(config.resume)

    data = instantiate(config.data)
    for stage in ("fit", "test") if config.test else ("fit",):
        data.setup(stage)  # bad test data stop a run now, and not after the training
    module = instantiate(config.module)(settings=settings)
    write_config = rank_zero_only((folder / "config.yaml").write_text)
    write_config(OmegaConf.to_yaml(config, resolve=True), encoding="utf-8")
    with own_wandb_run():
        trainer: pl.Trainer = instantiate(
            config.trainer,
            callbacks=[instantiate(callback) for callback in config.callbacks.values()],
            logger=[instantiate(logger) for logger in config.logger.values()],
            default_root_dir=str(folder),
            plugins=[AtomicCheckpoints()],
        )
        trainer.fit(module, datamodule=data, ckpt_path=config.resume, weights_only=True)
        results = _best_of_dev(trainer)
        if config.test:
            trainer.test(
                module, datamodule=data, ckpt_path=results["best_checkpoint"], verbose=False, weights_only=True
            )
            results |= {key: float(value) for key, value in trainer.callback_metrics.items() if key.startswith("test/")}
    if trainer.is_global_zero:
        (folder / "metrics.json").write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
        if config.test:
            protocol = config.dataset.test_protocols[0]
            print(f"test rsum: {results[f'test/{protocol}/rsum']:.1f} ({protocol})")


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


def _best_of_dev(trainer: "pl.Trainer") -> dict[str, Any]:
    """The best epoch's rSum on dev and its checkpoint."""
    best = trainer.checkpoint_callback
    return {
        "val/best_rsum": float(best.best_model_score),  # type: ignore[union-attr]
        "best_checkpoint": best.best_model_path,  # type: ignore[union-attr]
        "epochs": trainer.current_epoch,
    }


if __name__ == "__main__":
    main()
