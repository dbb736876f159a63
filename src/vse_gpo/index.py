"""python -m vse_gpo.index images=FOLDER model=… out=INDEX : embed your own images for the search."""

from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from vse_gpo.cli.run import all_settings, maker, run_command


def main() -> None:
    """The command."""
    run_command("vse_gpo.search.indexing:build_index", "index", arguments=arguments, bare="images", computes=True)


def arguments(config: DictConfig, folder: Path) -> dict[str, Any]:
    """Arguments of ``vse_gpo.search.indexing.build_index``."""
    parts = {group: {str(name): maker(part) for name, part in config[group].items()} for group in ("kinds", "engines")}
    return all_settings(config, folder) | parts


if __name__ == "__main__":
    main()
