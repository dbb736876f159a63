"""Peak memory of one training step against the batch size, at once and in micro-batches."""

import time

import torch

from benchmarks.measure import Measured, alone, begin_peak, peak
from vse_gpo.backbones.bigru import BiGRU
from vse_gpo.backbones.timm_trunks import timm_grid
from vse_gpo.batch import Batch, Tokens, take
from vse_gpo.data.captions import PrepareCaptions
from vse_gpo.data.images import PrepareImages
from vse_gpo.data.shapes import GrammarWords
from vse_gpo.encoder import Encoder, linear_projection
from vse_gpo.losses import TripletLoss
from vse_gpo.model import EMBEDDING, VSE
from vse_gpo.pooling import GPO
from vse_gpo.training.micro_batches import encode_micro_batches

MICRO_BATCH = 8


def memory() -> list[Measured]:
    """Peak of one training step of ResNet-18 on 224×224 pixels and a BiGRU, each in a separate process."""
    rows = []
    for pairs in (16, 32, 64):
        whole, taken, loss = alone(_measure_step, pairs, pairs)
        parts, taken_in_parts, loss_in_parts = alone(_measure_step, pairs, MICRO_BATCH)
        rows.append([pairs, whole, taken, parts, taken_in_parts, f"{abs(loss_in_parts - loss) / loss:.0e}"])
    in_parts = f"micro-batches of {MICRO_BATCH}, MiB"
    columns = ["batch", "at once, MiB", "seconds", in_parts, "seconds", "loss differs"]
    return [Measured("one training step, ResNet-18 at 224×224, on a CPU", columns, rows)]


def _measure_step(pairs: int, micro_batch: int) -> tuple[float, float, float]:
    """Peak MiB above model, gradients and batch; seconds; the loss."""
    torch.manual_seed(0)
    model = VSE(
        image_encoder=Encoder(
            backbone=timm_grid("resnet18", width=512, pretrained=False),
            projection=linear_projection(512, 256),
            pooling=GPO(),
        ),
        text_encoder=Encoder(
            backbone=BiGRU(vocabulary_size=1000, width=256), projection=torch.nn.Identity(), pooling=GPO()
        ),
        prepare_images=PrepareImages(size=224),
        prepare_captions=PrepareCaptions(tokenizer=GrammarWords()),
    )
    index = torch.arange(pairs)
    batch = Batch(
        torch.randint(256, (pairs, 3, 224, 224), dtype=torch.uint8),
        Tokens(torch.randint(1, 1000, (pairs, 12)), torch.full((pairs,), 12)),
        index,
        index,
    )

    def step(rows: Batch) -> float:
        outputs = encode_micro_batches(model, rows, None if micro_batch == pairs else micro_batch)
        loss = TripletLoss()(model.similarity(EMBEDDING, *outputs), hardest=False)
        loss.backward()
        return loss.item()

    step(take(batch, slice(0, 2)))  # one-time loading and allocation, gradients included
    before = begin_peak()
    start = time.perf_counter()
    loss = step(batch)
    return peak() - before, time.perf_counter() - start, loss
