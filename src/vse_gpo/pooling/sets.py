"""What every pooling asks of its sets: none is empty, and padding takes no part."""

from jaxtyping import Bool, Float, Int
from torch import Tensor

from vse_gpo.batch import valid_items
from vse_gpo.errors import VSEError


def check_lengths(lengths: Int[Tensor, " batch"]) -> None:
    """Refuse a set without items.

    Raises:
        VSEError: if there is one.
    """
    shortest = int(lengths.min())
    if shortest < 1:
        raise VSEError(f"a set of length {shortest} cannot be pooled: every set needs at least 1 item")


def padding(
    features: Float[Tensor, "batch items dim"], lengths: Int[Tensor, " batch"]
) -> Bool[Tensor, "batch items 1"]:
    """True where a row of the features is padding; see ``check_lengths`` for what is refused."""
    check_lengths(lengths)
    return ~valid_items(lengths, features.shape[1])[:, :, None]
