"""GPO with other generators of its coefficients, the variants of the paper's ablation.

``SizePooling`` with a ``SizeGenerator`` of ``SinCos`` and ``RankGRU`` is GPO itself.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from vse_gpo.batch import valid_items
from vse_gpo.errors import VSEError
from vse_gpo.gru import run_gru
from vse_gpo.pooling.gpo import TEMPERATURE, encode_positions
from vse_gpo.pooling.kernels.recurrence import run_both_ways
from vse_gpo.pooling.kernels.sorting import sort_descending, weigh_by_rank
from vse_gpo.pooling.learned import knot_shares
from vse_gpo.pooling.sets import Lengths, Pooling, distinct_lengths, padding, read_lengths, trimmed

Ordered = Float[Tensor, "batch dim items"]  # each channel's values, largest first
RankScores = Float[Tensor, "batch channels items"]  # of the positions: one row for all channels, or one per channel
States = Float[Tensor, "sizes items d_hidden"]  # values past a size are undefined


class RankPooling(Pooling):
    """Weights each channel's values by their rank, as GPO does, with weights from any generator.

    Args:
        generator: sorted values (B,D,N) and lengths (B,) → scores (B,1,N) or (B,D,N).
    """

    def __init__(self, generator: nn.Module) -> None:
        super().__init__()
        self.generator = generator

    def pool(
        self, features: Float[Tensor, "batch items dim"], lengths: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch dim"]:
        features = trimmed(features, lengths)
        padded = padding(features, lengths).transpose(1, 2)
        ordered = sort_descending(features, lengths)
        scores = self.generator(ordered, lengths) / TEMPERATURE
        return (ordered * scores.masked_fill(padded, -torch.inf).softmax(-1)).sum(-1)


class SizePooling(RankPooling):
    """``RankPooling`` with scores that depend only on a set's size, one row for all channels, as in GPO.

    Args:
        generator: values (B,D,N), of which only N is used, and lengths (B,) → scores (B,1,N).
    """

    def pool(
        self, features: Float[Tensor, "batch items dim"], lengths: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch dim"]:
        features = trimmed(features, lengths)
        return weigh_by_rank(features, lengths, self._weights(features, lengths).to(features.dtype))

    def coefficients(self, lengths: Lengths) -> Float[Tensor, "batch items"]:
        """Weight of each rank, largest value first: each row sums to 1 and is zero past its length.

        Raises:
            VSEError: if a set is empty, or the lengths are no integers.
        """
        parameter = next(self.parameters())
        sizes = read_lengths(lengths).to(parameter.device)
        return self._weights(parameter.new_empty(sizes.shape[0], int(sizes.max()), 1), sizes)

    def _weights(
        self, features: Float[Tensor, "batch items dim"], lengths: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch items"]:
        padded = padding(features, lengths)[:, :, 0]  # refuses empty sets before the generator runs
        scores = self.generator(features.transpose(1, 2), lengths)
        if scores.shape[1] != 1:
            raise VSEError(
                f"SizePooling with {scores.shape[1]} rows of scores, expected one for all channels; pool by RankPooling"
            )
        weights: Tensor = (scores[:, 0] / TEMPERATURE).masked_fill(padded, -torch.inf).softmax(-1)
        return weights


# generators


class SizeGenerator(nn.Module):
    """Scores that depend only on a set's size, one row per distinct length: encoded positions → sequence → linear.

    Args:
        positions: number of items → encoded positions (items, width).
        sequence: encoded positions and sizes → states of width ``d_hidden``.
        d_hidden: width of the states.
        channels: 1 for scores that all channels share; the feature width for separate scores per channel.
    """

    def __init__(self, *, positions: nn.Module, sequence: nn.Module, d_hidden: int = 32, channels: int = 1) -> None:
        super().__init__()
        self.positions = positions
        self.sequence = sequence
        self.linear = nn.Linear(d_hidden, channels, bias=False)

    def forward(self, ordered: Ordered, lengths: Int[Tensor, " batch"]) -> RankScores:
        sizes, row = distinct_lengths(lengths)
        encoded = self.positions(ordered.shape[2]).to(self.linear.weight)
        scores: RankScores = self.linear(self.sequence(encoded, sizes)).transpose(1, 2)[row]
        return scores


class FeatureGenerator(nn.Module):
    """Scores that depend on the values: a BiGRU reads each position's encoding plus a projection of the values there.

    Args:
        width: feature width.
        d_position: width of the encoding; even.
        d_hidden: width of the GRU, per direction.
    """

    def __init__(self, width: int, *, d_position: int = 32, d_hidden: int = 32) -> None:
        super().__init__()
        self.projection = nn.Linear(width, d_position)
        self.gru = nn.GRU(d_position, d_hidden, batch_first=True, bidirectional=True)
        self.linear = nn.Linear(d_hidden, 1, bias=False)

    def forward(self, ordered: Ordered, lengths: Int[Tensor, " batch"]) -> RankScores:
        encoded = encode_positions(ordered.shape[2], self.gru.input_size).to(ordered)
        states = run_gru(self.gru, encoded + self.projection(ordered.transpose(1, 2)), lengths)
        scores: RankScores = self.linear(states.mean(2)).transpose(1, 2)
        return scores


class InterpolatedVector(nn.Module):
    """A learned vector of scores, stretched or shrunk to each set's length by linear interpolation.

    Args:
        size: length of the vector.
    """

    def __init__(self, size: int = 32) -> None:
        super().__init__()
        self.scores = nn.Parameter(torch.zeros(size))

    def forward(self, ordered: Ordered, lengths: Int[Tensor, " batch"]) -> RankScores:
        shares = knot_shares(lengths, ordered.shape[2], len(self.scores)).to(self.scores)
        return (shares @ self.scores)[:, None]


# encoded positions


class SinCos(nn.Module):
    """Sines and cosines, GPO's choice.

    Args:
        width: width of the encoding; even.
    """

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.width = width

    def forward(self, items: int) -> Float[Tensor, "items width"]:
        return encode_positions(items, self.width)


class LearnedIndex(nn.Module):
    """A learned vector for each position.

    Args:
        width: width of the encoding.
        size: items of the largest set that can be pooled.
    """

    def __init__(self, width: int = 32, size: int = 512) -> None:
        super().__init__()
        self.vectors = nn.Parameter(torch.randn(size, width))

    def forward(self, items: int) -> Float[Tensor, "items width"]:
        if items > len(self.vectors):
            raise VSEError(
                f"a set of {items} items, the pooling's learned index ends at {len(self.vectors)}; set its size"
            )
        return self.vectors[:items]


# sequence models


class RankGRU(nn.Module):
    """GPO's sequence model: the mean of both directions' states.

    Args:
        d_position: width of the encoding.
        d_hidden: width of the GRU, per direction.
    """

    def __init__(self, d_position: int = 32, d_hidden: int = 32) -> None:
        super().__init__()
        self.gru = nn.GRU(d_position, d_hidden, batch_first=True, bidirectional=True)

    def forward(self, encoded: Float[Tensor, "items d_position"], sizes: Int[Tensor, " sizes"]) -> States:
        return run_both_ways(self.gru, encoded, sizes.cpu()).to(encoded)


class Transformer(nn.Module):
    """One Transformer layer over the positions of a size, without dropout.

    Args:
        width: width of the encoding and of the states.
        heads: number of attention heads; must divide the width.
    """

    def __init__(self, width: int = 32, heads: int = 4) -> None:
        super().__init__()
        if heads < 1 or width % heads:
            raise VSEError(f"a Transformer of width {width} with {heads} heads, expected heads that divide it")
        self.layer = nn.TransformerEncoderLayer(width, heads, 4 * width, dropout=0.0, batch_first=True)

    def forward(self, encoded: Float[Tensor, "items width"], sizes: Int[Tensor, " sizes"]) -> States:
        padded = ~valid_items(sizes, encoded.shape[0])
        return self.layer(encoded.expand(sizes.shape[0], -1, -1), src_key_padding_mask=padded)


class MLP(nn.Module):
    """Passes each position's encoding through a hidden layer; only the softmax depends on the size.

    Args:
        d_position: width of the encoding.
        d_hidden: width of the hidden layer.
    """

    def __init__(self, d_position: int = 32, d_hidden: int = 32) -> None:
        super().__init__()
        self.hidden = nn.Linear(d_position, d_hidden)

    def forward(self, encoded: Float[Tensor, "items d_position"], sizes: Int[Tensor, " sizes"]) -> States:
        return self.hidden(encoded).relu().expand(sizes.shape[0], -1, -1)
