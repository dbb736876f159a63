"""python -m vse_gpo.check_data experiment=… dataset.root=… : what a run needs, what is there, what is missing."""

import sys
from functools import partial
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.utils import get_method
from omegaconf import DictConfig, OmegaConf, open_dict

from vse_gpo.cli.arguments import for_shell
from vse_gpo.cli.names import plain
from vse_gpo.cli.run import run_command

MODEL = ("backbone", "text")
CHOICES = ("dataset=", "experiment=")
FETCH = "fetch=true"


def main() -> None:
    """The command."""
    if not any(argument.startswith(CHOICES) for argument in sys.argv[1:]):
        sys.argv.insert(1, "dataset=coco")
    run_command(
        "vse_gpo.data.check_run:check_data", "check_data", arguments=arguments, bare="dataset.root", complete=False
    )


def arguments(config: DictConfig, _folder: Path) -> dict[str, Any]:
    """Arguments of ``vse_gpo.data.check_run.check_data``; without an experiment, only the data set is checked."""
    with open_dict(config):
        del config.dataset.source  # nothing is opened
    typed = HydraConfig.get().overrides.task
    whole_run = any(one.lstrip("+").split("=")[0].split(".")[0] in ("experiment", *MODEL) for one in typed)
    model = {name: plain(config)[name] for name in MODEL}
    reads = "images" if "folder" in (model["backbone"]["open_images"] or {}) else "features"
    needs = partial(get_method("vse_gpo.data.needs.model_needs"), model) if whole_run else None
    command = ["vse-check-data", *(for_shell(one) for one in typed if one != FETCH), FETCH]
    return {
        "dataset": OmegaConf.to_container(config.dataset, resolve=True),
        "inputs": config.inputs or (reads if whole_run else "any"),
        **{name: config[name] for name in ("rows", "decode", "cxc", "fetch")},
        "find_needs": needs,
        "fetch_command": " ".join(command),
    }


if __name__ == "__main__":
    main()
