"""One embedding for a query of several parts."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from vse_gpo.encoder import normalize
from vse_gpo.errors import VSEError

LEAST = 1e-3  # length of a sum that still has a direction


def combine_parts(embeddings: Float[Tensor, "parts dim"], weights: Sequence[float]) -> Float[Tensor, "1 dim"]:
    """The unit sum of weighted unit embeddings (vector arithmetic, Mikolov et al. 2013).

    Args:
        embeddings: of the parts, of unit length.
        weights: of each.

    Raises:
        VSEError: if the parts cancel out, so that the sum has no direction.
    """
    total = torch.tensor(weights, dtype=embeddings.dtype) @ embeddings
    if float(total.norm()) < LEAST * max(map(abs, weights)) or not any(weights):
        raise VSEError("the parts of the query cancel out; change a text, an image or a weight")
    return normalize(total[None])
