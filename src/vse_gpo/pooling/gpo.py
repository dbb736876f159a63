"""The Generalized Pooling Operator (Chen et al. 2021, section 4), and two that start from another pooling."""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from vse_gpo.batch import hand_over, valid_items
from vse_gpo.pooling.fixed import First
from vse_gpo.pooling.kernels.recurrence import run_both_ways
from vse_gpo.pooling.kernels.sorting import weigh_by_rank
from vse_gpo.pooling.sets import Lengths, Pooling, check_lengths, distinct_lengths, read_lengths, trimmed
from vse_gpo.precision import full_product

TEMPERATURE = 0.1  # softmax temperature over positions


class GPO(Pooling):
    """Weights each channel's values by their rank, with weights that a GRU generates from the set's size.

    The coefficients depend only on the length, never on the features, so they are generated once per distinct length
    of a batch. Without gradients they are cached until the weights change.

    Args:
        d_position: width of the sine and cosine encoding of a rank; even.
        d_hidden: width of the GRU, per direction.
    """

    def __init__(self, d_position: int = 32, d_hidden: int = 32) -> None:
        super().__init__()
        self.d_position = d_position
        self.gru = nn.GRU(d_position, d_hidden, batch_first=True, bidirectional=True)
        self.linear = nn.Linear(d_hidden, 1, bias=False)
        self._kept = _KeptRows()

    def pool_sizes(
        self, features: Float[Tensor, "batch items dim"], sizes: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch dim"]:
        weights = self._weights(sizes, trimmed(features, sizes).shape[1]).to(features.dtype)
        return weigh_by_rank(features, hand_over(sizes, features.device), weights)

    def coefficients(self, lengths: Lengths) -> Float[Tensor, "batch items"]:
        """Weight of each rank, largest value first: each row sums to 1 and is zero past its length.

        Raises:
            VSEError: if a set is empty, or the lengths are no integers.
        """
        sizes = read_lengths(lengths).cpu()
        return self._weights(sizes, int(sizes.max()))

    def _weights(self, lengths: Int[Tensor, " batch"], items: int) -> Float[Tensor, "batch items"]:
        """Coefficients for lengths that are on the CPU."""
        sizes, row = distinct_lengths(lengths)
        check_lengths(sizes, items)
        if torch.is_grad_enabled() or torch.compiler.is_exporting():
            rows = self._generate(sizes, items)
        else:
            weights = torch.cat([parameter.detach().flatten() for parameter in self.parameters()])
            rows = self._kept.rows(sizes, weights, lambda missing: self._generate(missing, int(missing[-1])))
        return rows[hand_over(row, rows.device)]

    def _generate(self, sizes: Int[Tensor, " sizes"], items: int) -> Float[Tensor, "sizes items"]:
        """Coefficients, one row per size."""
        weight = self.linear.weight
        positions = hand_over(encode_positions(items, self.d_position), weight.device).to(weight.dtype)
        states = run_both_ways(self.gru, positions, sizes)
        scores = full_product(states.flatten(0, 1), weight.to(states)).view(states.shape[:2])
        padded = ~valid_items(sizes, items, scores.device)
        return (scores / TEMPERATURE).masked_fill(padded, -torch.inf).softmax(-1).to(positions)


class GPOFromMax(GPO):
    """The maximum plus a gated GPO, as one weighting of ranks.

    The gate starts at 0, so that training starts from max pooling, the best fixed pooling of most published tables, and
    keeps the maximum while GPO learns what other ranks add. GPO itself starts near the mean and needs many steps to
    leave it. Pools as ``ResidualGPO(base=Max())``, in one pass.

    Args:
        d_position, d_hidden: see ``GPO``.
    """

    def __init__(self, d_position: int = 32, d_hidden: int = 32) -> None:
        super().__init__(d_position, d_hidden)
        self.gate = nn.Parameter(torch.zeros(()))

    def coefficients(self, lengths: Lengths) -> Float[Tensor, "batch items"]:
        """Weight of each rank, largest value first: each row sums to 1 + the gate and is zero past its length.

        Raises:
            VSEError: if a set is empty, or the lengths are no integers.
        """
        return super().coefficients(lengths)

    def _weights(self, lengths: Int[Tensor, " batch"], items: int) -> Float[Tensor, "batch items"]:
        """Coefficients for lengths that are on the CPU."""
        weights = super()._weights(lengths, items)
        return self.gate * weights + (torch.arange(items, device=weights.device) == 0)


class ResidualGPO(Pooling):
    """Another pooling plus a gated GPO: a pretrained embedding, and what GPO adds to it.

    The gate starts at 0, so that a new model pools exactly as the base does ("ReZero", Bachlechner et al. 2021).

    Args:
        base: a pooling; None takes the first item, where a pretrained model has its own embedding.
        d_position, d_hidden: see ``GPO``.
    """

    def __init__(self, base: Pooling | None = None, d_position: int = 32, d_hidden: int = 32) -> None:
        super().__init__()
        self.base = First() if base is None else base
        self.gpo = GPO(d_position, d_hidden)
        self.gate = nn.Parameter(torch.zeros(()))

    def pool_sizes(
        self, features: Float[Tensor, "batch items dim"], sizes: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch dim"]:
        return self.base.pool_sizes(features, sizes) + self.gate * self.gpo.pool_sizes(features, sizes)


class _KeptRows:
    """Cache of coefficients by size, valid as long as the weights that generate them stay the same.

    The weights are compared by value: version counters miss changes through ``.data``, which callbacks that swap
    weights make. There are few weights, so comparing them takes microseconds.
    """

    def __init__(self) -> None:
        self._weights = torch.empty(0)
        self._rows: dict[int, Float[Tensor, " size"]] = {}

    def rows(
        self,
        sizes: Int[Tensor, " sizes"],
        weights: Float[Tensor, " weights"],
        generate: Callable[[Int[Tensor, " missing"]], Float[Tensor, "missing items"]],
    ) -> Float[Tensor, "sizes items"]:
        """One row per size; sizes that are not cached yet are generated together."""
        kept = self._weights
        if (kept.device, kept.dtype) != (weights.device, weights.dtype) or not torch.equal(kept, weights):
            self._weights, self._rows = weights, {}
        wanted = sizes.tolist()
        missing = [size for size in wanted if size not in self._rows]
        if missing:
            generated = generate(torch.tensor(missing))
            self._rows |= {size: row[:size].clone() for size, row in zip(missing, generated, strict=True)}
        return pad_sequence([self._rows[size] for size in wanted], batch_first=True)


def encode_positions(items: int, width: int) -> Float[Tensor, "items width"]:
    """Sines in even and cosines in odd columns, with wavelengths 2π to 10,000·2π (Vaswani et al. 2017, 3.5)."""
    frequencies = 10000.0 ** (-torch.arange(0, width, 2) / width)
    angles = torch.arange(items)[:, None] * frequencies
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)
