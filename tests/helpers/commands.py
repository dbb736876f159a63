"""Commands whose work is a function of the test's, given the whole config."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from vse_gpo.cli.run import run_command


def run_on_config(
    job: Callable[[DictConfig], object], config_name: str = "train", bare: str | None = None, *, computes: bool = False
) -> None:
    """Do the job on what was typed, as the command does its work."""
    run_command(job, config_name, arguments=whole_config, bare=bare, computes=computes)


def whole_config(config: DictConfig, folder: Path) -> dict[str, Any]:
    return {"config": config}
