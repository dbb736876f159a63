"""The trunk that features were made with, kept beside them."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from vse_gpo.errors import VSEError, first_line
from vse_gpo.storage.weights import write_weights
from vse_gpo.storage.writing import whole_folder

SETTINGS, WEIGHTS = "trunk.json", "trunk.safetensors"


def keep_trunk(folder: Path, network: nn.Module, settings: Mapping[str, Any]) -> None:
    """Write a trunk beside its features; one that an earlier start has written is read, so that all rows are alike.

    Args:
        folder: of the trunk.
        network: pixels → features.
        settings: ``network`` and ``prepare``, which build the trunk and what makes its pixels.

    Raises:
        VSEError: if there is another trunk, or the folder cannot be written.
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
    """Settings and weights of a trunk that ``keep_trunk`` wrote.

    Raises:
        VSEError: if there is none.
    """
    try:
        settings = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
        return {name: settings[name] for name in ("network", "prepare")}, load_file(folder / WEIGHTS)
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise VSEError(
            f"{folder}: no trunk ({first_line(error)}), expected {SETTINGS} and {WEIGHTS} as vse-extract writes them"
        ) from error
