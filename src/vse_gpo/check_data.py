"""python -m vse_gpo.check_data dataset=… dataset.root=… : show what a data set should hold and what is there."""

from pathlib import Path
from typing import Any

from omegaconf import DictConfig, open_dict

from vse_gpo.cli.run import all_settings, run_command


def main() -> None:
    """The command."""
    run_command("vse_gpo.data.checks:check_data", "check_data", arguments=arguments, bare="dataset.root")


def arguments(config: DictConfig, folder: Path) -> dict[str, Any]:
    """Arguments of ``vse_gpo.data.checks.check_data``; nothing is opened, so the source is left out."""
    with open_dict(config):
        del config.dataset.source
    return all_settings(config, folder)


if __name__ == "__main__":
    main()
