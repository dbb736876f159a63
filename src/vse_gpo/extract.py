"""python -m vse_gpo.extract : extract features of a data set's images, in the layout that region backbones read."""

from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from vse_gpo.cli.run import maker, run_command


def main() -> None:
    """The command."""
    run_command("vse_gpo.data.extraction:extract", "extract", arguments=arguments, bare="dataset.root", computes=True)


def arguments(config: DictConfig, _folder: Path) -> dict[str, Any]:
    """Arguments of ``vse_gpo.data.extraction.extract``."""
    settings: Any = OmegaConf.to_container(config, resolve=True)
    as_they_are = ("out", "splits", "backbone", "dtype", "batch_size", "workers", "accelerator", "devices", "precision")
    return {
        **{name: settings[name] for name in as_they_are},
        **{name: settings["dataset"].get(name) for name in ("root", "image_folder")},  # shards have neither
        "make_source": maker(config.dataset.source),
        "make_prepare": maker(config.backbone.prepare),
        "make_network": maker(config.backbone.network),
    }


if __name__ == "__main__":
    main()
