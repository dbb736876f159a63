"""Poolings without parameters, the baselines of the paper's table 3."""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vse_gpo.batch import valid_items
from vse_gpo.errors import VSEError
from vse_gpo.pooling.sets import Pooling, padding


class Mean(Pooling):
    """Average of the items."""

    def pool(
        self, features: Float[Tensor, "batch items dim"], lengths: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch dim"]:
        return features.masked_fill(padding(features, lengths), 0.0).sum(1) / lengths[:, None]


class Max(Pooling):
    """Largest value of each channel."""

    def pool(
        self, features: Float[Tensor, "batch items dim"], lengths: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch dim"]:
        return features.masked_fill(padding(features, lengths), -torch.inf).amax(1)


class KMax(Pooling):
    """Mean of the k largest values of each channel, or of all values if a set has fewer than k items or k is None."""

    def __init__(self, k: int | None) -> None:
        super().__init__()
        if k is not None and k < 1:
            raise VSEError(f"k-max pooling with k={k}, expected at least 1, or null for all items")
        self.k = k

    def pool(
        self, features: Float[Tensor, "batch items dim"], lengths: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch dim"]:
        if self.k is None:
            return features.masked_fill(padding(features, lengths), 0.0).sum(1) / lengths[:, None]
        k: Any = torch.sym_min(self.k, features.shape[1])  # an exported graph picks the smaller one at run time
        largest = features.masked_fill(padding(features, lengths), -torch.inf).topk(k, dim=1).values
        counted = lengths.clamp(max=k)
        taken = valid_items(counted, k)[:, :, None]
        return largest.masked_fill(~taken, 0.0).sum(1) / counted[:, None]


class First(Pooling):
    """Only the first item: [CLS] for BERT, <start> for a BiGRU."""

    def pool(
        self, features: Float[Tensor, "batch items dim"], lengths: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch dim"]:
        return features[:, 0]


class Last(Pooling):
    """Only the last item: for a forward GRU, the state that has seen every word."""

    def pool(
        self, features: Float[Tensor, "batch items dim"], lengths: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch dim"]:
        return features[torch.arange(features.shape[0], device=features.device), lengths - 1]
