"""Poolings with learned weights that treat each channel separately: GeM, FSPool."""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from vse_gpo.errors import VSEError
from vse_gpo.pooling.kernels.sorting import sort_descending
from vse_gpo.pooling.sets import Pooling, padding


class GeM(Pooling):
    """Generalised mean ``(mean of xᵖ)^(1/p)`` of each channel, with one learned p for all (Radenović et al. 2018).

    Values below ``floor`` count as ``floor``, because powers of negative numbers are undefined. p = 1 gives the mean of
    the clamped values, p → ∞ their maximum.

    No power is computed. With the largest value m of a channel factored out, the mean is
    ``m · exp((logsumexp(p · log(x / m)) − log n) / p)``: no exponent exceeds 0, so values of any size stay finite.

    Args:
        p: initial value. Its logarithm is trained, which keeps p above 0.
        floor: smallest value, above 0.
    """

    def __init__(self, p: float = 3.0, floor: float = 1e-6) -> None:
        super().__init__()
        if p <= 0 or floor <= 0:
            raise VSEError(f"GeM with p={p} and floor={floor}, expected both above 0")
        self.floor = floor
        self.log_p = nn.Parameter(torch.tensor(math.log(p)))

    def pool(
        self, features: Float[Tensor, "batch items dim"], lengths: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch dim"]:
        p, padded = self.log_p.exp(), padding(features, lengths)
        values = features.masked_fill(padded, self.floor).clamp(min=self.floor)
        largest = values.detach().amax(1, keepdim=True)  # any constant works: the mean scales with its values
        exponents = p * (values.log() - largest.log())
        total = exponents.masked_fill(padded, -torch.inf).logsumexp(1)
        return largest.squeeze(1) * ((total - lengths[:, None].to(total).log()) / p).exp()


class FSPool(Pooling):
    """Weighted sum of each channel's sorted values; each channel learns weights per rank (Zhang et al. 2020).

    The weights are a piecewise linear function of the rank, scaled to 0 for the largest value and 1 for the smallest,
    so they fit sets of any size.

    Args:
        width: feature width.
        pieces: number of linear pieces.
    """

    def __init__(self, width: int, pieces: int = 20) -> None:
        super().__init__()
        if pieces < 1:
            raise VSEError(f"FSPool with {pieces} pieces, expected at least 1")
        self.knots = nn.Parameter(torch.randn(width, pieces + 1))

    def pool(
        self, features: Float[Tensor, "batch items dim"], lengths: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch dim"]:
        ordered = sort_descending(features, lengths)
        shares = knot_shares(lengths, ordered.shape[2], self.knots.shape[1]).to(ordered)
        return ((ordered @ shares) * self.knots).sum(-1)


def knot_shares(lengths: Int[Tensor, " batch"], items: int, knots: int) -> Float[Tensor, "batch items knots"]:
    """Share of each knot of a piecewise linear function at each rank of a set: ``shares @ values at the knots``.

    The first rank lies on the first knot and the last rank on the last. Rows past a length are undefined.
    """
    last_rank = (lengths - 1).clamp(min=1)
    places = torch.arange(items, device=lengths.device) * (knots - 1) / last_rank[:, None]
    return (1 - (places[:, :, None] - torch.arange(knots, device=lengths.device)).abs()).clamp(min=0)
