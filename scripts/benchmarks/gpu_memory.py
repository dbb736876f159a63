"""Memory and time of the published rows on GPUs, computed without one: activations are counted on the meta device."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode
from transformers import BertConfig, BertModel

from benchmarks.measure import MIB, Measured
from vse_gpo.backbones.backbone import Backbone
from vse_gpo.backbones.images import butd_grid, imagenet_resnet152_grid
from vse_gpo.backbones.timm_trunks import timm_grid
from vse_gpo.errors import VSEError
from vse_gpo.training.trial_step import halves

GIB = 2**30
SIDE, TOKENS, PAIRS = 512, 32, 128  # pixels; tokens of a long caption; the published batch
CELLS, WIDTH = 256, 1024  # what GPO sorts
TRUNKS: dict[str, tuple[Callable[[], Backbone], float]] = {
    # trunk, and timm's images/s of a training at 224×224 on an RTX 3090 (AMP, channels last), with its GFLOP per image
    "wsl_grid": (lambda: timm_grid("resnext101_32x8d", pretrained=False), 312.8 * 2 * 16.48),
    "imagenet_res152_grid": (lambda: imagenet_resnet152_grid(pretrained=False), 501.4 * 2 * 11.56),
    "butd_grid": (butd_grid, 747.9 * 2 * 7.83),
}
CARDS = {
    "RTX 3090, 24 GB": (24, 936),
    "A100, 40 GB": (40, 1555),
    "A100, 80 GB": (80, 2039),
    "H200, 141 GB": (141, 4800),
}
OF_RTX_3090 = 936  # GB/s of its memory, which bounds such trunks in half precision
EPOCHS, COCO_PAIRS = 25, 566_435  # the first epoch is frozen
STATES = 4 + 4 + 4 + 4 + 2  # bytes a parameter: weight, gradient, two averages of Adam, its copy in half precision
SPARE = 2 * GIB  # CUDA itself, workspaces of cuDNN, blocks that do not fit together


@dataclass(frozen=True)
class Counted:
    """What a network takes for one item.

    Args:
        parameters: of the whole network.
        gflop: forward.
        kept: bytes that the forward pass keeps for the backward pass.
    """

    parameters: int
    gflop: float
    kept: float


def gpu_memory() -> list[Measured]:
    """What trunks keep for each image, and the micro-batch and the time of a run on cards."""
    text = {half: count_text(half=half) for half in (True, False)}
    kept, runs = [], []
    for name, (make, _) in TRUNKS.items():
        counted = {half: count(make, half=half) for half in (True, False)}
        again = None
        with suppress(VSEError):  # a trunk without checkpointing
            again = count(make, half=True, checkpointing=True).kept / MIB
        whole = counted[True]
        kept.append([name, whole.parameters / 1e6, whole.gflop, counted[False].kept / MIB, whole.kept / MIB, again])
        for card in CARDS:
            sizes = [largest_micro_batch(card, counted[half], text[half]) for half in (False, True)]
            runs.append([f"coco, {name}, BERT", card, *sizes, hours(name, card, whole.gflop, sizes[1])])
    columns = ["trunk at 512×512", "million parameters", "GFLOP forward", "float32, MiB", "bf16, MiB", "checkpointed"]
    title = "computed: what an image's activations take"
    cards = ["run", "card", "pairs at once, float32", "pairs at once, bf16", "hours, bf16"]
    return [Measured(title, columns, kept), Measured("computed: a run on one card", cards, runs)]


def count(make: Callable[[], Backbone], *, half: bool, checkpointing: bool = False) -> Counted:
    """Count an image trunk at 512×512 as it trains, its BatchNorms in eval mode."""
    with torch.device("meta"):
        backbone = make()
    if checkpointing:
        backbone.enable_checkpointing("backbone.checkpointing")
    trunk: Any = backbone.compilable()
    return _count(trunk, lambda items, kind: torch.empty(items, 3, SIDE, SIDE, device="meta", dtype=kind), half=half)


def count_text(*, half: bool) -> Counted:
    """Count BERT on a caption of 32 tokens."""
    with torch.device("meta"):
        bert = BertModel(BertConfig(), add_pooling_layer=False).train()

    def words(items: int, kind: torch.dtype) -> Tensor:
        return torch.empty(items, TOKENS, bert.config.hidden_size, device="meta", dtype=kind)

    return _count(bert, words, half=half, argument="inputs_embeds")


def _count(
    network: nn.Module, make: Callable[[int, torch.dtype], Tensor], *, half: bool, argument: str | None = None
) -> Counted:
    """Count for two and for four items; the difference is free of what does not grow with them."""
    kind = torch.bfloat16 if half else torch.float32
    network.to(kind)
    kept = []
    for items in (2, 4):
        inputs = make(items, kind)
        flops = FlopCounterMode(display=False)
        with flops, alive() as made:
            output = network(**{argument: inputs}) if argument else network(inputs)
        kept.append(sum(size for storage, size in made.items() if not storage.expired()) + inputs.nbytes)
        del output
    parameters = sum(parameter.numel() for parameter in network.parameters())
    return Counted(parameters, flops.get_total_flops() / 4 / 1e9, (kept[1] - kept[0]) / 2)


@contextmanager
def alive() -> Iterator[dict[StorageWeakRef, int]]:
    """The storages that operations make, with their bytes; those in use can be told afterwards."""
    made: dict[StorageWeakRef, int] = {}

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            found = operation(*args, **(kwargs or {}))
            before = {leaf.untyped_storage()._cdata for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)}
            for tensor in tree_leaves(found):
                if isinstance(tensor, Tensor) and tensor.untyped_storage()._cdata not in before:
                    made[StorageWeakRef(tensor.untyped_storage())] = tensor.untyped_storage().nbytes()
            return found

    with Watch():
        yield made


def largest_micro_batch(card: str, image: Counted, text: Counted) -> int | None:
    """The largest half, quarter, … of the batch that fits on a card; None if a pair does not."""
    heads = 4 * CELLS * WIDTH * 4  # projected, sorted, their order and the gradient
    fixed = (image.parameters + text.parameters) * STATES + SPARE
    free = CARDS[card][0] * 1e9 - fixed
    return next((size for size in halves(PAIRS) if size * (image.kept + text.kept + heads) <= free), None)


def hours(name: str, card: str, gflop: float, micro_batch: int | None) -> float | None:
    """Hours of the published 25 epochs on COCO in bf16, where the loader keeps up.

    The published rate of timm on one card, by the operations of an image and by the memory's bandwidth of this card.
    Micro-batches are encoded twice; with a frozen trunk there is only the forward pass, a third of the work.
    """
    _, published = TRUNKS[name]
    if micro_batch is None:
        return None
    rate = published / gflop * CARDS[card][1] / OF_RTX_3090
    forward = 2 if micro_batch < PAIRS else 1
    passes = (EPOCHS - 1) * (forward + 2) / 3 + forward / 3
    return COCO_PAIRS * passes / rate / 3600
