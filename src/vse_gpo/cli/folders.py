"""Where the configs are."""

from pathlib import Path

from vse_gpo.errors import VSEError


def config_folder() -> str:
    """``configs`` inside an installed package, or beside ``src`` in a checkout."""
    package = Path(__file__).parents[1]
    for folder in (package / "configs", package.parents[1] / "configs"):
        if (folder / "train.yaml").is_file():
            return str(folder)
    raise VSEError(f"no configs beside {package}; install the package again")
