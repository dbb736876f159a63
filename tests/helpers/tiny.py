"""A model, a data set and a trainer small enough to run many times; everything in it is the real part."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from timm.utils import ModelEmaV3
from torch import Tensor, nn

from vse_gpo.backbones.backbone import Backbone
from vse_gpo.backbones.bigru import BiGRU
from vse_gpo.backbones.images import Regions
from vse_gpo.checkpoints.atomic import AtomicCheckpoints
from vse_gpo.data.captions import PrepareCaptions, WordNoise, Words
from vse_gpo.data.datamodule import PairsDataModule
from vse_gpo.data.regions import PrepareRegions
from vse_gpo.data.split import Split
from vse_gpo.encoder import DropRegions, Encoder
from vse_gpo.interaction import Interaction
from vse_gpo.losses import TripletLoss
from vse_gpo.model import VSE
from vse_gpo.pooling import GPO
from vse_gpo.training.callbacks.averaging import AveragedWeights
from vse_gpo.training.module import RetrievalModule
from vse_gpo.training.optimization import Optimization
from vse_gpo.training.phases import Phases

WIDTH = 6
DECAY, WARMUP_POWER = 0.8, 0.75  # of averaged weights
STORY = [
    {"from_epoch": 0, "trunk": "frozen", "negatives": "all"},
    {"from_epoch": 1, "negatives": "hardest", "ramp_loss": True},
    {"from_epoch": 2, "negatives": "hardest"},
]


class Letters:
    """One token per letter."""

    vocabulary_size = 28
    mask_id = 27
    unknown_id = None

    def words(self, caption: str) -> Words:
        return [[ord(letter) - ord("a") + 1] for letter in caption]

    def sequence(self, words: Words) -> list[int]:
        return [token for word in words for token in word]

    def spell(self, word: list[int]) -> str:
        return chr(ord("a") + word[0] - 1)

    def save(self, folder: Path, settings: dict[str, Any]) -> dict[str, Any]:
        return settings


@dataclass(frozen=True)
class RandomRegions:
    """Three regions an image, drawn from the row."""

    rows: int

    def __len__(self) -> int:
        return self.rows

    def __getitem__(self, row: int) -> Tensor:
        return torch.from_numpy(np.random.default_rng(row).standard_normal((3, WIDTH)).astype(np.float32))

    def name(self, row: int) -> str:
        return f"image {row}"


class TinySource:
    """Images with one to three captions each, ``abc`` spelling the image's row."""

    def __init__(self, images: int = 11) -> None:
        self.images = images

    def split(self, name: str) -> Split:
        counts = [1 + row % 3 for row in range(self.images)]
        index = np.repeat(np.arange(self.images), counts)
        captions = [chr(ord("a") + row % 26) + "bc"[: nth + 1] for row, n in enumerate(counts) for nth in range(n)]
        return Split(
            name=name,
            captions=captions,
            caption_to_image=index,
            image_ids=[str(row) for row in range(self.images)],
            images=RandomRegions(self.images),
        )


def tiny_data(**changes: Any) -> PairsDataModule:
    settings: dict[str, Any] = {
        "source": TinySource(),
        "images": PrepareRegions(),
        "captions": PrepareCaptions(tokenizer=Letters(), noise=WordNoise()),
        "batch_size": 4,
        "evaluation_batch_size": 4,
        "workers": 0,
        "seed": 0,
        "drop_last": False,
    }
    return PairsDataModule(**(settings | changes))


def preparations() -> dict[str, Any]:
    """What makes the inputs of a model on regions and letters."""
    return {"prepare_images": PrepareRegions(), "prepare_captions": PrepareCaptions(tokenizer=Letters())}


class Trunk(Backbone):
    """A trainable image backbone, with dropout to make a step random."""

    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.regions = Regions(WIDTH)
        self.width = WIDTH
        self.layer = nn.Linear(WIDTH, WIDTH)
        self.dropout = nn.Dropout(dropout)

    def forward(self, regions: Any) -> Any:
        features = self.regions(regions)
        return features._replace(values=self.dropout(self.layer(features.values)))


def tiny_module(
    *,
    dropout: float = 0.1,
    drop_regions: float = 0.2,
    backbone: Backbone | None = None,
    projection: nn.Module | None = None,
    interaction: Interaction | None = None,
    **changes: Any,
) -> RetrievalModule:
    torch.manual_seed(7)
    model = VSE(
        image_encoder=Encoder(
            backbone=Trunk(dropout) if backbone is None else backbone,
            projection=nn.Linear(WIDTH, 8) if projection is None else projection,
            pooling=GPO(8, 4),
            size_augmentation=DropRegions(drop_regions) if backbone is None else None,
        ),
        text_encoder=Encoder(
            backbone=BiGRU(vocabulary_size=28, width=8, word_width=5), projection=nn.Identity(), pooling=GPO(8, 4)
        ),
        **preparations(),
        interaction=interaction,
    )
    settings: dict[str, Any] = {
        "loss": TripletLoss(),
        "phases": Phases(STORY),
        "optimization": tiny_optimization(),
        "mask_same_image": False,
        "test_protocols": ["all"],
        "seed": 0,
        "settings": {"name": "tiny"},
    }
    return RetrievalModule(model=model, **(settings | changes))


def tiny_optimization(**changes: Any) -> Optimization:
    settings: dict[str, Any] = {
        "optimizer": torch.optim.AdamW,
        "schedule": partial(torch.optim.lr_scheduler.MultiStepLR, milestones=[2]),
        "interval": "epoch",
        "lr": 1e-2,
        "image_backbone_scale": 0.1,
        "text_backbone_scale": 1.0,
    }
    return Optimization(**(settings | changes))


def tiny_trainer(folder: Path, **changes: Any) -> pl.Trainer:
    settings: dict[str, Any] = {
        "accelerator": "cpu",
        "devices": 1,
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "num_sanity_val_steps": 0,
        "gradient_clip_val": 2.0,
        "use_distributed_sampler": False,
        "max_epochs": 3,
        "log_every_n_steps": 1,
        "default_root_dir": str(folder),
        "plugins": [AtomicCheckpoints()],
        "callbacks": [save_last(folder)],
    }
    return pl.Trainer(**(settings | changes))


def save_last(folder: Path, every_n_steps: int | None = None) -> ModelCheckpoint:
    """``last.ckpt`` at each epoch's end, or after every few steps."""
    if every_n_steps is None:
        return ModelCheckpoint(
            dirpath=folder, save_last=True, save_on_train_epoch_end=True, enable_version_counter=False
        )
    return ModelCheckpoint(
        dirpath=folder, save_last=True, every_n_train_steps=every_n_steps, enable_version_counter=False
    )


def averaged(folder: Path) -> AveragedWeights:
    """A moving average of the weights, the best epoch's in ``best_ema.ckpt``."""
    best = ModelCheckpoint(
        dirpath=folder,
        filename="best_ema",
        monitor="val/ema/rsum",
        mode="max",
        save_weights_only=True,
        save_on_train_epoch_end=False,
    )
    average = partial(ModelEmaV3, decay=DECAY, use_warmup=True, warmup_power=WARMUP_POWER)
    return AveragedWeights(average=average, best=best)


def weights(module: RetrievalModule) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in module.model.state_dict().items()}
