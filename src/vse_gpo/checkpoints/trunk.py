"""Attach a trunk to a model that was trained on the trunk's features."""

from pathlib import Path

import torch

from vse_gpo.backbones.images import Regions
from vse_gpo.errors import VSEError
from vse_gpo.model import VSE, build_model
from vse_gpo.storage.settings import build, without_weights
from vse_gpo.storage.trunk import read_trunk
from vse_gpo.storage.weights import check_weights


def with_trunk(model: VSE, folder: str | Path) -> VSE:
    """A model that was trained on features, with the trunk that made them as its backbone, so that it reads images.

    Args:
        model: model trained on features.
        folder: folder of the trunk, next to the features that ``vse-extract`` wrote.

    Raises:
        VSEError: if the folder holds no trunk, or the model reads images already or features of another width.
    """
    features = model.image_encoder.backbone
    if not isinstance(features, Regions):
        raise VSEError("the model reads images already; only a model of features can be given a trunk")
    kept, trunk_weights = read_trunk(Path(folder).expanduser())
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
