"""python -m vse_gpo.train experiment=… : train a model, then test its best checkpoint."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from vse_gpo.commands import run_command

if TYPE_CHECKING:
    import pytorch_lightning as pl


def main() -> None:
    """The command."""
    run_command(train, "train")


def train(config: DictConfig) -> None:
    """Train as the config says; the run folder holds everything that comes of it."""
    import pytorch_lightning as pl
    from hydra.core.hydra_config import HydraConfig
    from hydra.utils import instantiate

    from vse_gpo.checkpoints import AtomicCheckpoints, check_readable

    folder = Path(HydraConfig.get().runtime.output_dir)
    settings = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    (folder / "config.yaml").write_text(OmegaConf.to_yaml(config, resolve=True), encoding="utf-8")
    pl.seed_everything(config.seed, workers=True, verbose=False)
    if config.resume is not None:
        check_readable(config.resume)

    data = instantiate(config.data)
    module = instantiate(config.module)(settings=settings)
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
        trainer.test(module, datamodule=data, ckpt_path="best", verbose=False, weights_only=True)
        results |= {name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith("test/")}
    if trainer.is_global_zero:
        (folder / "metrics.json").write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
        if config.test:
            protocol = config.dataset.test_protocols[0]
            print(f"test rsum: {results[f'test/{protocol}/rsum']:.1f} ({protocol})")


def _best_of_dev(trainer: "pl.Trainer") -> dict[str, Any]:
    """The best epoch's rSum on dev and its checkpoint."""
    best = trainer.checkpoint_callback
    return {
        "val/best_rsum": float(best.best_model_score),  # type: ignore[union-attr, arg-type]
        "best_checkpoint": best.best_model_path,  # type: ignore[union-attr]
        "epochs": trainer.current_epoch,
    }


if __name__ == "__main__":
    main()
