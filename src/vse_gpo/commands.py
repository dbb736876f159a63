"""What the commands share: where the configs lie, and how an error reaches the user as one line."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

import hydra
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from vse_gpo.errors import VSEError


def config_folder() -> str:
    """``configs`` inside an installed package, or beside ``src`` in a checkout."""
    package = Path(__file__).parent
    for folder in (package / "configs", package.parents[1] / "configs"):
        if (folder / "train.yaml").is_file():
            return str(folder)
    raise VSEError(f"no configs beside {package}; install the package again")


def run_command(job: Callable[[DictConfig], None], config_name: str) -> None:
    """Compose the config from the command line and run the job on it.

    An error that is meant for the user becomes one line on stderr and exit status 1; any other keeps its traceback.
    HYDRA_FULL_ERROR=1 shows every traceback.
    """
    if os.environ.get("HYDRA_FULL_ERROR") == "1":
        hydra.main(version_base="1.3", config_path=config_folder(), config_name=config_name)(job)()
        return
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra hands its errors on instead of printing them
    try:
        hydra.main(version_base="1.3", config_path=config_folder(), config_name=config_name)(job)()
    except Exception as error:
        message = user_message(error)
        if message is None:
            raise
        sys.stderr.write(f"error: {message}\n")
        sys.exit(1)


def user_message(error: BaseException | None) -> str | None:
    """The line for the user that an error or one of its causes carries; None if it is a bug of ours."""
    while error is not None:
        if isinstance(error, VSEError):
            # an error in a loader's process arrives as its traceback, the message last
            return str(error).strip().splitlines()[-1].removeprefix("vse_gpo.errors.VSEError: ")
        if isinstance(error, HydraException | OmegaConfBaseException) and error.__cause__ is None:
            return "; ".join(line.strip() for line in str(error).strip().splitlines() if line.strip())
        error = error.__cause__
    return None
