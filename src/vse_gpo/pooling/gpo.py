"""The Generalized Pooling Operator (Chen et al. 2021, section 4)."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from vse_gpo.batch import valid_items
from vse_gpo.pooling.recurrence import run_both_ways
from vse_gpo.pooling.sets import check_lengths, distinct_lengths, trimmed
from vse_gpo.pooling.sorting import weigh_by_rank

TEMPERATURE = 0.1  # of the softmax over positions


class GPO(nn.Module):
    """Weights each channel's values by their rank, with weights that a GRU generates from the set's size.

    The coefficients depend on the length alone, never on the features, so they are generated once per distinct
    length of a batch.

    Args:
        d_position: width of the sine and cosine encoding of a rank, even.
        d_hidden: width of the GRU, per direction.
    """

    def __init__(self, d_position: int = 32, d_hidden: int = 32) -> None:
        super().__init__()
        self.d_position = d_position
        self.gru = nn.GRU(d_position, d_hidden, batch_first=True, bidirectional=True)
        self.linear = nn.Linear(d_hidden, 1, bias=False)

    def forward(
        self, features: Float[Tensor, "batch items dim"], lengths: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch dim"]:
        """Pool each set; its padding takes no part."""
        features = trimmed(features, lengths)
        weights = self._weights(lengths, features.shape[1]).to(features.dtype)
        return weigh_by_rank(features, lengths, weights)

    def coefficients(self, lengths: Int[Tensor, " batch"]) -> Float[Tensor, "batch items"]:
        """Weight of each rank, largest value first: each row sums to 1 and is zero past its length.

        Raises:
            VSEError: if a set is empty.
        """
        return self._weights(lengths, int(lengths.max()))

    def _weights(self, lengths: Int[Tensor, " batch"], items: int) -> Float[Tensor, "batch items"]:
        distinct, row = distinct_lengths(lengths)
        sizes = distinct.cpu()
        check_lengths(sizes)
        positions = encode_positions(items, self.d_position).to(self.linear.weight)
        scores = self.linear(run_both_ways(self.gru, positions, sizes)).squeeze(-1)
        return (scores / TEMPERATURE).masked_fill(~valid_items(distinct, items), -torch.inf).softmax(-1)[row]


def encode_positions(items: int, width: int) -> Float[Tensor, "items width"]:
    """Sines in even and cosines in odd columns, of wavelengths 2π to 10,000·2π (Vaswani et al. 2017, 3.5)."""
    frequencies = 10000.0 ** (-torch.arange(0, width, 2) / width)
    angles = torch.arange(items)[:, None] * frequencies
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)
