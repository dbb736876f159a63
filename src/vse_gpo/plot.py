"""python -m vse_gpo.plot RUN OUT.png : draw a figure of a run: its poolings' coefficients, or example retrievals."""

from pathlib import Path
from typing import Any

from hydra.utils import instantiate
from omegaconf import DictConfig

from vse_gpo.cli.run import all_settings, run_command


def main() -> None:
    """The command."""
    run_command("vse_gpo.figures.run:plot", "plot", arguments=arguments, words=("run", "out"))


def arguments(config: DictConfig, folder: Path) -> dict[str, Any]:
    """Arguments of ``vse_gpo.figures.run.plot``."""
    return all_settings(config, folder) | {"make_source": instantiate}


if __name__ == "__main__":
    main()
