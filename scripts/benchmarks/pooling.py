"""GPO forward and backward, against ``torch.sort`` with a GRU run for every set, and against mean pooling."""

import torch
from torch import Tensor
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from benchmarks.measure import Measured, turn_by_turn
from vse_gpo.batch import valid_items
from vse_gpo.pooling import GPO, Mean
from vse_gpo.pooling.gpo import TEMPERATURE, encode_positions

SHAPES = ((128, 36, 1024), (128, 256, 1024))


def pooling(device: str) -> list[Measured]:
    """Forward and backward pass of one batch of sets of several sizes, as size augmentation makes them."""
    return [_of_shape(*shape, device=device) for shape in SHAPES]


def _of_shape(batch: int, items: int, width: int, *, device: str) -> Measured:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(batch, items, width, generator=generator).to(device).requires_grad_()
    kept = torch.rand(batch, items, generator=generator) >= 0.2
    lengths = kept.sum(1).clamp(min=1).to(device)
    gpo, mean = GPO().to(device), Mean().to(device)

    def forward_and_backward(pool) -> None:
        features.grad = None
        pool(features, lengths).square().sum().backward()

    limit, ours, plain = turn_by_turn(
        [
            lambda: forward_and_backward(mean),
            lambda: forward_and_backward(gpo),
            lambda: forward_and_backward(lambda values, sizes: plain_gpo(gpo, values, sizes)),
        ],
        repeats=5,
    )
    difference = (gpo(features, lengths) - plain_gpo(gpo, features, lengths)).abs().max().item()
    return Measured(
        f"pooling {batch} × {items} × {width}, forward and backward, {device}",
        ["", "milliseconds", "of ours"],
        [
            ["mean of each set", 1000 * limit, limit / ours],
            ["GPO", 1000 * ours, 1.0],
            [f"GPO as released (differs by {difference:.0e})", 1000 * plain, plain / ours],
        ],
    )


def plain_gpo(gpo: GPO, features: Tensor, lengths: Tensor) -> Tensor:
    """The operator as its authors released it, with our weights."""
    longest = int(lengths.max())
    positions = encode_positions(longest, gpo.d_position).to(features)
    packed = pack_padded_sequence(
        positions.expand(len(lengths), -1, -1), lengths.cpu(), batch_first=True, enforce_sorted=False
    )
    states, _ = pad_packed_sequence(gpo.gru(packed)[0], batch_first=True)
    forwards, backwards = states.chunk(2, dim=-1)
    scores = gpo.linear((forwards + backwards) / 2).squeeze(-1)
    valid = valid_items(lengths, longest, features.device)
    coefficients = (scores / TEMPERATURE).masked_fill(~valid, -10_000 / TEMPERATURE).softmax(-1)
    ordered = features[:, :longest].masked_fill(~valid[:, :, None], -10_000).sort(dim=1, descending=True).values
    ordered = ordered.masked_fill(~valid[:, :, None], 0)
    return (ordered * coefficients[:, :, None]).sum(1)
