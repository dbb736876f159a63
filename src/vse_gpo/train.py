"""python -m vse_gpo.train experiment=… : train a model, then test its best checkpoint."""

from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from vse_gpo.cli.run import maker, run_command
from vse_gpo.errors import VSEError


def main() -> None:
    """The command."""
    run_command("vse_gpo.training.run:train", "train", arguments=arguments, bare="dataset.root", computes=True)


def arguments(config: DictConfig, folder: Path) -> dict[str, Any]:
    """Arguments of ``vse_gpo.training.run.train``."""
    settings: Any = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    if config.callbacks.get("best") is None:
        raise VSEError("callbacks without best, whose checkpoint the test takes; add default: callbacks=[default,…]")
    if config.trainer.sync_batchnorm:
        raise VSEError(
            "trainer.sync_batchnorm=true would break timm's BatchNorms; leave it out: that of the region projection is "
            "synchronised already, and those of pretrained trunks keep their statistics"
        )
    return {
        "settings": settings,
        "folder": folder,
        "resume": config.resume,
        "init": config.init,
        "init_skip": [skip] if isinstance(skip := settings["init_skip"], str) else skip or [],
        "devices": config.trainer.devices,
        "in_sweep": HydraConfig.get().mode == RunMode.MULTIRUN,
        "seed": config.seed,
        "max_epochs": config.trainer.max_epochs,
        "max_steps": config.trainer.max_steps,
        "splits": [config.data.train_split, config.data.dev_split, *([config.data.test_split] if config.test else [])],
        "test_protocols": settings["dataset"]["test_protocols"] if config.test else None,
        "make_source": maker(config.data.source),
        "make_data": maker(config.data),
        "make_module": maker(config.module),
        "make_trainer": maker(config.trainer),
        "make_callbacks": [maker(callback) for callback in config.callbacks.values() if callback is not None],
        "make_loggers": [maker(logger) for logger in config.logger.values() if logger is not None],
        "make_checkpoint_io": maker(config.checkpoint_io),
        "make_adapters": None if config.adapters is None else maker(config.adapters),
    }


if __name__ == "__main__":
    main()
