"""A job that launchers send to processes of theirs; started by itself, as the checks of shapes cannot be sent along."""

import os
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from vse_gpo.cli.run import run_command


def note_seed(config: DictConfig) -> float:
    folder = Path(HydraConfig.get().runtime.output_dir)
    (folder / "seed").write_text(f"{config.seed} {config.trainer.max_epochs} {os.getpid()}")
    return float(config.seed)


if __name__ == "__main__":
    run_command(note_seed, "train")
