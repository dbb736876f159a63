"""A job that launchers send to processes of theirs; started by itself, as the checks of shapes cannot be sent along."""

import os
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from vse_gpo.cli.run import run_command


def note_seed(*, folder: Path, seed: int, max_epochs: int) -> float:
    (folder / "seed").write_text(f"{seed} {max_epochs} {os.getpid()}")
    return float(seed)


def arguments(config: DictConfig, folder: Path) -> dict[str, Any]:
    return {"folder": folder, "seed": config.seed, "max_epochs": config.trainer.max_epochs}


if __name__ == "__main__":
    run_command(note_seed, "train", arguments=arguments)
