"""Interactions against only the products of their items: of a test split like Flickr30K's, and of a training step."""

import time
from functools import partial

import torch
from torch.nn.functional import normalize

from benchmarks.measure import MIB, Measured, alone, begin_peak, peak, turn_by_turn
from vse_gpo.batch import Features
from vse_gpo.interaction import HardAssignment, Interaction, MaxSim, ScanImageToText, ScanTextToImage

IMAGES, CAPTIONS, REGIONS, WORDS, WIDTH = 1000, 5000, 36, 40, 1024  # words: of the longest caption
INTERACTIONS: dict[str, Interaction] = {
    "SCAN t2i": ScanTextToImage(),
    "SCAN i2t": ScanImageToText(),
    "MaxSim both ways": MaxSim(),
    "CHAN": HardAssignment(),
}
PAIRS = 128  # in a training step
AT_ONCE = 1024  # items of a block of the products


def interaction() -> list[Measured]:
    """Each interaction of a whole test split, re-ranking 50 images for one caption, and a training step's part."""
    rows = []
    for name in INTERACTIONS:
        bare, taken, sets, above, one = alone(_measured, name, (IMAGES, CAPTIONS, REGIONS, WORDS, WIDTH))
        rows.append([name, bare, taken, taken / bare, sets, above, 1000 * one])
    columns = ["", "products, s", "interaction, s", "ratio", "sets, MiB", "peak above, MiB", "50 for a query, ms"]
    steps = [[name, *alone(_measured_step, name, (PAIRS, PAIRS, REGIONS, WORDS, WIDTH))] for name in INTERACTIONS]
    step_columns = ["", "products, ms", "float32, ms", "ratio", "products, bf16, ms", "bf16, ms", "ratio"]
    return [
        Measured(f"{IMAGES:,} × {CAPTIONS:,}, {REGIONS} regions, width {WIDTH}", columns, rows),
        Measured(f"forward and backward of {PAIRS} pairs", step_columns, steps),
    ]


def _measured(name: str, sizes: tuple[int, int, int, int, int]) -> tuple[float, float, float, float, float]:
    images, captions = _sets(*sizes)
    compare = INTERACTIONS[name]
    with torch.inference_mode():
        compare(*(Features(part.values[:8], part.lengths[:8]) for part in (images, captions)))  # one-time loading
        bare = -time.perf_counter()
        _products(images, captions)
        bare += time.perf_counter()
        before, taken = begin_peak(), -time.perf_counter()
        compare(images, captions)
        taken += time.perf_counter()
        above = peak() - before
        fifty = Features(images.values[:50], images.lengths[:50])
        query = Features(captions.values[:1], captions.lengths[:1])
        compare(fifty, query)
        one = -time.perf_counter()
        for _ in range(10):
            compare(fifty, query)
        one += time.perf_counter()
    return bare, taken, sum(part.values.numel() for part in (images, captions)) * 4 / MIB, above, one / 10


def _measured_step(name: str, sizes: tuple[int, int, int, int, int]) -> list[float]:
    """Milliseconds of the products and of the interaction, and their ratio, in float32 and then in mixed precision."""
    pairs = [Features(part.values.requires_grad_(), part.lengths) for part in _sets(*sizes)]
    row = []
    for half in (False, True):
        bare, taken = turn_by_turn([partial(_products_step, *pairs, half), partial(_step, name, *pairs, half)])
        row += [1000 * bare, 1000 * taken, taken / bare]
    return row


def _products_step(images: Features, captions: Features, half: bool) -> None:
    kind = torch.bfloat16 if half else torch.float32
    regions, words = images.values.flatten(0, 1).to(kind), _items(captions).to(kind)
    (regions @ words.T).sum().backward()


def _step(name: str, images: Features, captions: Features, half: bool) -> None:
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        similarity = INTERACTIONS[name](images, captions)
    similarity.sum().backward()


def _sets(images: int, captions: int, regions: int, words: int, width: int) -> tuple[Features, Features]:
    """Unit items; captions about as long as those of Flickr30K."""
    generator = torch.Generator().manual_seed(0)
    lengths = (12 + 4 * torch.randn(captions, generator=generator)).round().clamp(4, words).long()
    of_images, of_captions = (
        normalize(torch.randn(*shape, width, generator=generator), dim=-1)
        for shape in ((images, regions), (captions, words))
    )
    return Features(of_images, torch.full((images,), regions)), Features(of_captions, lengths)


def _products(images: Features, captions: Features) -> None:
    """Dot products of all real items, and nothing else."""
    words = _items(captions)
    for some_regions in images.values.flatten(0, 1).split(AT_ONCE):
        for some_words in words.split(AT_ONCE):
            some_regions @ some_words.T


def _items(sets: Features) -> torch.Tensor:
    """All real items, in rows."""
    return torch.cat([items[:length] for items, length in zip(sets.values, sets.lengths, strict=True)])
