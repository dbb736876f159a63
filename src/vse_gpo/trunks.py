"""The trunk that features were made with: kept beside them, and given back to a model that was trained on them."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from vse_gpo.backbones.images import Regions
from vse_gpo.build import build, without_weights
from vse_gpo.errors import VSEError, first_line
from vse_gpo.model import VSE, build_model, check_weights, write_weights
from vse_gpo.writing import whole_folder

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
        kept, weights = _read(folder)
        if kept != settings:
            raise VSEError(f"{folder.parent}: holds features of another trunk or of other pixels; name a new folder")
        network.load_state_dict(weights)
        return
    with whole_folder(folder) as part:
        (part / SETTINGS).write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
        write_weights(network, part / WEIGHTS)


def with_trunk(model: VSE, folder: str | Path) -> VSE:
    """A model that was trained on features, with the trunk that made them in their place: it reads pictures.

    Args:
        model: of features.
        folder: of the trunk, beside the features that ``vse-extract`` wrote.

    Raises:
        VSEError: if the folder holds no trunk, the model reads pictures already or features of another width.
    """
    features = model.image_encoder.backbone
    if not isinstance(features, Regions):
        raise VSEError("the model reads pictures already; a trunk can be given to a model of features alone")
    kept, trunk_weights = _read(Path(folder))
    built = build(without_weights(kept))
    network, pixels = built["network"].eval(), torch.zeros(3, 64, 64, dtype=torch.uint8)
    check_weights(trunk_weights, network.state_dict())
    with torch.inference_mode():
        width = network(built["prepare"]([pixels])).values.shape[2]
    if width != features.width:
        raise VSEError(
            f"{folder}: its features are {width} wide, the model was trained on others {features.width} wide"
        )
    settings = dict(model.settings or {}) | {"prepare_images": kept["prepare"]}
    settings["image_encoder"] = settings["image_encoder"] | {"backbone": kept["network"]}
    weights = {f"image_encoder.backbone.{name}": weight for name, weight in trunk_weights.items()}
    return build_model(settings, model.state_dict() | weights)


def _read(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Settings and weights."""
    try:
        settings = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
        return {name: settings[name] for name in ("network", "prepare")}, load_file(folder / WEIGHTS)
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise VSEError(
            f"{folder}: no trunk ({first_line(error)}), expected {SETTINGS} and {WEIGHTS} as vse-extract writes them"
        ) from error
