"""The trunk that made features, stored next to them."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from torch import Tensor, nn

from vse_gpo.errors import VSEError, first_line
from vse_gpo.storage.weights import read_whole_weights, write_weights
from vse_gpo.storage.writing import whole_folder

SETTINGS, WEIGHTS = "trunk.json", "trunk.safetensors"


def keep_trunk(folder: Path, network: nn.Module, settings: Mapping[str, Any]) -> None:
    """Write a trunk next to its features, or load the one that an earlier start wrote, so that all rows use the same.

    Args:
        folder: folder of the trunk.
        network: pixels → features.
        settings: ``network`` and ``prepare``, which build the trunk and its image preparation.

    Raises:
        VSEError: if the folder holds another trunk or cannot be written.
    """
    if folder.exists():
        kept, weights = read_trunk(folder)
        if kept != settings:
            raise VSEError(f"{folder.parent}: holds features of another trunk or of other pixels; name a new folder")
        network.load_state_dict(weights)
        return
    with whole_folder(folder) as part:
        (part / SETTINGS).write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
        write_weights(network, part / WEIGHTS)


def read_trunk(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read the settings and weights of a trunk that ``keep_trunk`` wrote.

    Raises:
        VSEError: if the folder holds no trunk.
    """
    try:
        settings = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
        return {name: settings[name] for name in ("network", "prepare")}, read_whole_weights(folder / WEIGHTS)
    except VSEError:
        raise
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise VSEError(
            f"{folder}: no trunk ({first_line(error)}), expected {SETTINGS} and {WEIGHTS} as vse-extract writes them"
        ) from error
