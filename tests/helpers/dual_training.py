"""Trainings that start from a tiny dual encoder, composed as a run composes them."""

import copy
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import Tensor
from torchvision.transforms.functional import pil_to_tensor

from tests.helpers.tiny import STORY, tiny_data, tiny_optimization
from tests.helpers.tiny_duals import photographs
from vse_gpo import VSE
from vse_gpo.cli.run import config_folder
from vse_gpo.data.datamodule import PairsDataModule
from vse_gpo.data.split import Split
from vse_gpo.losses import InfoNCE
from vse_gpo.training.module import RetrievalModule
from vse_gpo.training.phases import Phases

OVERRIDES = ["~experiment", "backbone=dual", "text=dual", "pooling=residual_gpo", "dataset=f8k", "dataset.root=."]
WORDS = ["a", "red", "dog", "boat", "the", "fence", "car", "grass"]


@lru_cache
def settings_of(folder: Path, *overrides: str) -> dict[str, Any]:
    """Settings of the model of a run that starts from the dual encoder in a folder."""
    with initialize_config_dir(config_folder(), version_base="1.3"):
        config = compose("train", [*OVERRIDES, f"backbone.pretrained={folder}", *overrides])
    settings: Any = OmegaConf.to_container(config.model, resolve=True)
    return settings


def start(folder: Path, *overrides: str) -> VSE:
    """The model of a new run."""
    torch.manual_seed(0)
    settings = copy.deepcopy(settings_of(folder, *overrides))
    model: VSE = instantiate(settings)
    assert model.training
    model.settings = settings
    return model


def open_gates(model: VSE) -> None:
    """Let the tokens count, as they do after some steps."""
    with torch.no_grad():
        for encoder in (model.image_encoder, model.text_encoder):
            encoder.pooling.gate.fill_(0.7)


@dataclass(frozen=True)
class Photographs:
    """Pixels of the photographs, 32×32 and larger."""

    pixels: list[Tensor]

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, row: int) -> Tensor:
        return self.pixels[row]

    def name(self, row: int) -> str:
        return f"photograph {row}"


@lru_cache
def pixels(images: int) -> Photographs:
    """The first photographs."""
    return Photographs([pil_to_tensor(image) for image in photographs(images)])


class PhotoSource:
    """Photographs with two captions each."""

    def __init__(self, images: int) -> None:
        self.images = pixels(images)

    def split(self, name: str) -> Split:
        draws, images = np.random.default_rng(0), len(self.images)
        return Split(
            name=name,
            captions=[" ".join(draws.choice(WORDS, 1 + row % 4)) for row in range(2 * images)],
            caption_to_image=np.repeat(np.arange(images), 2),
            image_ids=[str(row) for row in range(images)],
            images=self.images,
        )


def dual_data(model: VSE, *, images: int = 8, **changes: Any) -> PairsDataModule:
    """Data that a model reads, 16 pairs in batches of 4."""
    own = {"source": PhotoSource(images), "images": model.prepare_images, "captions": model.prepare_captions}
    return tiny_data(**(own | changes))


def dual_module(folder: Path, **changes: Any) -> RetrievalModule:
    """A frozen, a ramped and a last epoch, by layers, from the dual encoder's own scale."""
    model = start(folder)
    settings: dict[str, Any] = {
        "loss": InfoNCE(temperature=None),
        "phases": Phases(STORY),
        "optimization": tiny_optimization(layer_decay=0.7, text_backbone_scale=0.1),
        "mask_same_image": True,
        "test_protocols": ["all"],
        "seed": 0,
        "settings": {"model": model.settings},
    }
    return RetrievalModule(model=model, **(settings | changes))
