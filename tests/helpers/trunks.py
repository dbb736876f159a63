"""A small trunk and its settings."""

import torch
from torch import nn

from tests.helpers.small_settings import SETTINGS
from vse_gpo.storage.settings import build

TRUNK = {"network": SETTINGS["image_encoder"]["backbone"], "prepare": SETTINGS["prepare_images"]}


def small_trunk() -> nn.Module:
    torch.manual_seed(0)
    network: nn.Module = build(TRUNK["network"])
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.3)
    return network.eval()
