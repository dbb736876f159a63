"""A whole training step on region features, against the same with mean pooling and against the bare encoders."""

import torch
from torch import nn
from transformers import BertConfig, BertModel

from benchmarks.measure import Measured, turn_by_turn
from benchmarks.pooling import plain_gpo
from vse_gpo.backbones.images import Regions
from vse_gpo.backbones.texts import Bert
from vse_gpo.batch import Batch, Features, Tokens
from vse_gpo.data.captions import PrepareCaptions
from vse_gpo.data.regions import PrepareRegions
from vse_gpo.data.shapes import GrammarWords
from vse_gpo.encoder import DropRegions, Encoder, ResidualProjection
from vse_gpo.losses import TripletLoss
from vse_gpo.model import VSE
from vse_gpo.pooling import GPO, Mean

PAIRS, REGIONS, WIDTH, EMBEDDING = 128, 36, 1280, 1024
LAYERS = 6  # of MiniLM


class PlainGPO(GPO):
    """As released: coefficients are computed separately for every set, and ``torch.sort`` sorts all channels."""

    def forward(self, features: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        return plain_gpo(self, features, lengths)


def train_step(device: str, precision: str) -> list[Measured]:
    """Forward, loss, backward, clipping and AdamW; captions of MiniLM's size, as long as Flickr8k's."""
    poolings: list[tuple[str, type[nn.Module]]] = [
        ("mean pooling", Mean),
        ("GPO", GPO),
        ("GPO as released", PlainGPO),
    ]
    batch = _batch(device)
    steps = [_step(_model(pooling).to(device), batch, precision) for _, pooling in poolings]
    taken = turn_by_turn([*steps, _bare_step(_model(Mean).to(device), batch, precision)], repeats=5)
    names = [*(name for name, _ in poolings), "bare encoders: no pooling, no size augmentation, no loss"]
    columns = ["", "milliseconds", "of mean pooling"]
    rows = [[name, 1000 * own, own / taken[0]] for name, own in zip(names, taken, strict=True)]
    title = f"a training step: {PAIRS} pairs, {REGIONS} × {WIDTH} regions, MiniLM, {precision}, {device}"
    return [Measured(title, columns, rows)]


def _batch(device: str) -> Batch:
    generator = torch.Generator().manual_seed(0)
    lengths = (13 + 3.5 * torch.randn(PAIRS, generator=generator)).round().long().clamp(6, 32)
    ids = torch.randint(1000, 30000, (PAIRS, int(lengths.max())), generator=generator)
    regions = torch.randn(PAIRS, REGIONS, WIDTH, generator=generator)
    index = torch.arange(PAIRS)
    images = Features(regions, torch.full((PAIRS,), REGIONS))
    return Batch(images, Tokens(ids, lengths), index, index).to(torch.device(device))


def _model(pooling: type[nn.Module]) -> VSE:
    torch.manual_seed(0)
    minilm = BertConfig(hidden_size=384, num_hidden_layers=LAYERS, num_attention_heads=12, intermediate_size=1536)
    return VSE(
        image_encoder=Encoder(
            backbone=Regions(WIDTH),
            projection=ResidualProjection(WIDTH, EMBEDDING),
            pooling=pooling(),
            size_augmentation=DropRegions(0.2),
        ),
        text_encoder=Encoder(
            backbone=Bert(BertModel(minilm, add_pooling_layer=False).train(), groups=4),
            projection=nn.Linear(384, EMBEDDING),
            pooling=pooling(),
        ),
        prepare_images=PrepareRegions(),
        prepare_captions=PrepareCaptions(tokenizer=GrammarWords()),
    ).train()


def _step(model: VSE, batch: Batch, precision: str):
    optimizer, loss = torch.optim.AdamW(model.parameters(), lr=1e-5), TripletLoss()

    def step() -> None:
        with _autocast(batch, precision):
            images, captions = model(batch)
        loss(images.float() @ captions.float().T).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 2.0)
        optimizer.step()
        optimizer.zero_grad()

    return step


def _bare_step(model: VSE, batch: Batch, precision: str):
    """What cannot be left out: backbones and projections, forward and backward, and the optimizer."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)
    image, text = model.image_encoder, model.text_encoder

    def step() -> None:
        with _autocast(batch, precision):
            regions = image.projection(image.backbone(batch.images).values)
            words = text.projection(text.backbone(batch.tokens).values)
        (regions.sum() + words.sum()).backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def _autocast(batch: Batch, precision: str) -> torch.autocast:
    kind = batch.images.values.device.type
    return torch.autocast(kind, dtype=torch.bfloat16, enabled=precision == "bf16-mixed")
