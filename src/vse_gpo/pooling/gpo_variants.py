"""GPO with other generators of its coefficients, the variants of the paper's ablation.

``SizePooling`` with a ``SizeGenerator`` of ``SinCos`` and ``RankGRU`` is GPO itself.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from vse_gpo.batch import hand_over, valid_items
from vse_gpo.errors import VSEError
from vse_gpo.gru import run_gru
from vse_gpo.pooling.gpo import TEMPERATURE, encode_positions
from vse_gpo.pooling.kernels.recurrence import run_both_ways
from vse_gpo.pooling.kernels.sorting import sort_descending, weigh_by_rank
from vse_gpo.pooling.learned import knot_shares
from vse_gpo.pooling.sets import Lengths, Pooling, check_lengths, distinct_lengths, padding, read_lengths, trimmed

Ordered = Float[Tensor, "batch dim items"]  # each channel's values, largest first
RankScores = Float[Tensor, "batch channels items"]  # of the positions: one row for all channels, or one per channel
States = Float[Tensor, "sizes items d_hidden"]  # values past a size are undefined


class RankPooling(Pooling):
    """Weights each channel's values by their rank, as GPO does, with weights from any generator.

    Args:
        generator: sorted values (B,D,N) and lengths (B,) on the CPU → scores (B,1,N) or (B,D,N).
    """

    def __init__(self, generator: nn.Module) -> None:
        super().__init__()
        self.generator = generator

    def pool_sizes(
        self, features: Float[Tensor, "batch items dim"], sizes: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch dim"]:
        features = trimmed(features, sizes)
        padded = padding(features, sizes).transpose(1, 2)
        ordered = sort_descending(features, hand_over(sizes, features.device))
        scores = self.generator(ordered, sizes) / TEMPERATURE
        return (ordered * scores.masked_fill(padded, -torch.inf).softmax(-1)).sum(-1)


class SizePooling(RankPooling):
    """``RankPooling`` with scores that depend only on a set's size, one row for all channels, as in GPO.

    Args:
        generator: values (B,D,N), of which only N is used, and lengths (B,) on the CPU → scores (B,1,N).
    """

    def pool_sizes(
        self, features: Float[Tensor, "batch items dim"], sizes: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch dim"]:
        features = trimmed(features, sizes)
        weights = self._weights(features, sizes).to(features.dtype)
        return weigh_by_rank(features, hand_over(sizes, features.device), weights)

    def coefficients(self, lengths: Lengths) -> Float[Tensor, "batch items"]:
        """Weight of each rank, largest value first: each row sums to 1 and is zero past its length.

        Raises:
            VSEError: if a set is empty, or the lengths are no integers.
        """
        parameter = next(self.parameters())
        sizes = read_lengths(lengths).cpu()
        items = int(sizes.max())
        check_lengths(sizes, items)
        return self._weights(parameter.new_empty(sizes.shape[0], items, 1), sizes)

    def _weights(
        self, features: Float[Tensor, "batch items dim"], sizes: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch items"]:
        padded = padding(features, sizes)[:, :, 0]
        scores = self.generator(features.transpose(1, 2), sizes)
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
        weight = self.linear.weight
        encoded = hand_over(self.positions(ordered.shape[2]), weight.device).to(weight.dtype)
        scores: RankScores = self.linear(self.sequence(encoded, sizes)).transpose(1, 2)
        return scores[hand_over(row, scores.device)]


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
        encoded = hand_over(encode_positions(ordered.shape[2], self.gru.input_size), ordered.device).to(ordered.dtype)
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
        lengths = hand_over(lengths, ordered.device)
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
        return run_both_ways(self.gru, encoded, sizes).to(encoded)


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
        padded = ~valid_items(sizes, encoded.shape[0], encoded.device)
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
