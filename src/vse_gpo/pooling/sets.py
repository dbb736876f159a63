"""What every pooling requires of its sets: no set is empty, and padding is ignored.

During export, values are unknown: lengths are not checked, and no work is saved by them.
"""

from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from vse_gpo.batch import valid_items
from vse_gpo.errors import VSEError


def check_lengths(lengths: Int[Tensor, " batch"], items: int) -> None:
    """Refuse lengths below 1 or above the number of items.

    Raises:
        VSEError: if a length is out of this range.
    """
    if torch.compiler.is_exporting():
        return
    shortest, longest = torch.stack(lengths.aminmax()).tolist()  # synchronises with a GPU once
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
    """The features without the rows that are padding in every set."""
    return features if torch.compiler.is_exporting() else features[:, : int(lengths.max())]


def distinct_lengths(lengths: Int[Tensor, " batch"]) -> tuple[Int[Tensor, " sizes"], Int[Tensor, " batch"]]:
    """Distinct lengths, and each set's index into them, to compute once what depends only on the length."""
    if torch.compiler.is_exporting():
        return lengths, torch.arange(lengths.shape[0], device=lengths.device)
    return torch.unique(lengths, return_inverse=True)


@runtime_checkable
class WeightsRanks(Protocol):
    """A pooling whose coefficients depend only on the size of a set, as GPO's do."""

    def coefficients(self, lengths: Int[Tensor, " batch"]) -> Float[Tensor, "batch items"]:
        """Weight of each rank, largest value first; zero past a length."""
