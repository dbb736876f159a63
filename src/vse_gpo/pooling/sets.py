"""What every pooling requires of its sets: no set is empty, and padding is ignored.

During export, values are unknown: lengths are not checked, and no work is saved by them.
"""

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import numpy.typing as npt
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from vse_gpo.batch import hand_over, valid_items
from vse_gpo.errors import VSEError, first_line

Lengths = Tensor | npt.NDArray[Any] | Sequence[Any]  # integers (B,), or a mask (B, N) that is True for valid items
INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.uint16, torch.uint32, torch.uint64)
EXPECTED = "expected integers (sets,), or a boolean mask (sets, items) that is True for valid items"


class Pooling(nn.Module):
    """Base of the poolings: it takes lengths in any form, on any device, and a subclass pools by them in ``pool``.

    Lengths are integers (B,), a list of them, or a boolean mask (B, N) whose valid items come first. Those on the CPU
    cost no time; to read others, the CPU waits once for the GPU that holds them.
    """

    def forward(self, features: Float[Tensor, "batch items dim"], lengths: Lengths) -> Float[Tensor, "batch dim"]:
        """Pool each set; its padding takes no part.

        Raises:
            VSEError: if the lengths are of another form or number than the sets, a set is empty, or a length is larger
                than the number of items.
        """
        sizes = read_lengths(lengths, features).cpu()
        check_lengths(sizes, features.shape[1])
        return self.pool_sizes(features, sizes)

    def pool_sizes(
        self, features: Float[Tensor, "batch items dim"], sizes: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch dim"]:
        """Pool each set, given checked lengths as integers on the CPU; for poolings that read their values."""
        return self.pool(features, hand_over(sizes, features.device))

    def pool(
        self, features: Float[Tensor, "batch items dim"], lengths: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch dim"]:
        """Pool each set, given checked lengths as integers on the features' device."""
        raise NotImplementedError


def apply_pooling(
    pooling: nn.Module, features: Float[Tensor, "batch items dim"], lengths: Int[Tensor, " batch"]
) -> Float[Tensor, "batch dim"]:
    """Pool by a ``Pooling``, which takes lengths from any device, or by a module that gets them on the features'."""
    if not isinstance(pooling, Pooling):
        lengths = hand_over(lengths, features.device)
    pooled: Tensor = pooling(features, lengths)
    return pooled


def read_lengths(lengths: Lengths, features: Float[Tensor, "batch items ..."] | None = None) -> Int[Tensor, " batch"]:
    """Lengths of any form as integers (B,), on the device where they are.

    Their values are not checked (see ``check_lengths``): a GPU is not waited for here, except for a mask.

    Args:
        lengths: integers (B,), or a boolean mask (B, N).
        features: of the sets; None takes any number of sets and items.

    Raises:
        VSEError: if they are of another kind or shape, or valid items of a mask do not come first.
    """
    if torch.compiler.is_exporting() and isinstance(lengths, Tensor):
        return lengths
    try:
        found = torch.as_tensor(lengths)
    except (TypeError, ValueError, RuntimeError) as error:
        raise VSEError(f"lengths cannot be read as numbers ({first_line(error)}); {EXPECTED}") from error
    if 0 in found.shape:
        raise VSEError(f"lengths of shape {tuple(found.shape)}, there is nothing to pool; {EXPECTED}")
    if found.dtype == torch.bool and found.ndim == 2:
        return _valid_first(found, None if features is None else features.shape[:2])
    if found.dtype not in INTEGERS or found.ndim != 1:
        raise VSEError(f"lengths of shape {tuple(found.shape)} and {found.dtype}; {EXPECTED}")
    if features is not None and len(found) != len(features):
        raise VSEError(f"{len(found)} lengths for {len(features)} sets; {EXPECTED}")
    return found.long()


def _valid_first(mask: Bool[Tensor, "batch items"], shape: torch.Size | None) -> Int[Tensor, " batch"]:
    if shape is not None and mask.shape != shape:
        raise VSEError(f"a mask of shape {tuple(mask.shape)} for sets and items {tuple(shape)}; {EXPECTED}")
    counts = mask.sum(1)
    if not torch.equal(mask, valid_items(counts, mask.shape[1])):
        raise VSEError("a mask with padding before valid items; valid items must come first in each set")
    return counts


def check_lengths(lengths: Int[Tensor, " batch"], items: int) -> None:
    """Refuse lengths below 1 or above the number of items; they are on the CPU.

    Raises:
        VSEError: if a length is out of this range.
    """
    if torch.compiler.is_exporting():
        return
    shortest, longest = torch.stack(lengths.aminmax()).tolist()
    if shortest < 1:
        raise VSEError(f"a set of length {shortest} cannot be pooled: every set needs at least 1 item")
    if longest > items:
        raise VSEError(f"a set of length {longest} cannot be pooled: there are {items} items")


def padding(
    features: Float[Tensor, "batch items dim"], lengths: Int[Tensor, " batch"]
) -> Bool[Tensor, "batch items 1"]:
    """True where a row of the features is padding."""
    return ~valid_items(lengths, features.shape[1], features.device)[:, :, None]


def trimmed(
    features: Float[Tensor, "batch items dim"], sizes: Int[Tensor, " batch"]
) -> Float[Tensor, "batch longest dim"]:
    """The features without the rows that are padding in every set; the sizes are on the CPU."""
    return features if torch.compiler.is_exporting() else features[:, : int(sizes.max())]


def distinct_lengths(lengths: Int[Tensor, " batch"]) -> tuple[Int[Tensor, " sizes"], Int[Tensor, " batch"]]:
    """Distinct lengths, and each set's index into them, to compute once what depends only on the length.

    On the CPU, as the lengths.
    """
    if torch.compiler.is_exporting():
        return lengths, torch.arange(lengths.shape[0], device=lengths.device)
    return torch.unique(lengths, return_inverse=True)


@runtime_checkable
class WeightsRanks(Protocol):
    """A pooling whose coefficients depend only on the size of a set, as GPO's do."""

    def coefficients(self, lengths: Lengths) -> Float[Tensor, "batch items"]:
        """Weight of each rank, largest value first; zero past a length."""
