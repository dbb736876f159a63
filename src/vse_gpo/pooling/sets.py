"""What every pooling asks of its sets: none is empty, and padding takes no part.

A graph that is exported knows no values: there, lengths are neither checked, nor is anything saved by them.
"""

from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from vse_gpo.batch import valid_items
from vse_gpo.errors import VSEError


def check_lengths(lengths: Int[Tensor, " batch"], items: int) -> None:
    """Refuse a set without items, or of more than there are.

    Raises:
        VSEError: if there is one.
    """
    if torch.compiler.is_exporting():
        return
    shortest, longest = torch.stack(lengths.aminmax()).tolist()  # waits for a GPU once
    if shortest < 1:
        raise VSEError(f"a set of length {shortest} cannot be pooled: every set needs at least 1 item")
    if longest > items:
        raise VSEError(f"a set of length {longest} cannot be pooled: there are {items} items")


def padding(
    features: Float[Tensor, "batch items dim"], lengths: Int[Tensor, " batch"]
) -> Bool[Tensor, "batch items 1"]:
    """True where a row of the features is padding; see ``check_lengths`` for what is refused."""
    check_lengths(lengths, features.shape[1])
    return ~valid_items(lengths, features.shape[1])[:, :, None]


def trimmed(
    features: Float[Tensor, "batch items dim"], lengths: Int[Tensor, " batch"]
) -> Float[Tensor, "batch longest dim"]:
    """Without the rows that are padding in every set."""
    return features if torch.compiler.is_exporting() else features[:, : int(lengths.max())]


def distinct_lengths(lengths: Int[Tensor, " batch"]) -> tuple[Int[Tensor, " sizes"], Int[Tensor, " batch"]]:
    """Each length once, and which of them every set has: what follows from a length alone is made once."""
    if torch.compiler.is_exporting():
        return lengths, torch.arange(lengths.shape[0], device=lengths.device)
    return torch.unique(lengths, return_inverse=True)


@runtime_checkable
class WeightsRanks(Protocol):
    """A pooling whose coefficients follow from the size of a set alone, as GPO's do."""

    def coefficients(self, lengths: Int[Tensor, " batch"]) -> Float[Tensor, "batch items"]:
        """Weight of each rank, largest value first; zero past a length."""
