"""SCAN, stacked cross attention (Lee et al., ECCV 2018): the items of one side attend to those of the other."""

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from vse_gpo.errors import VSEError
from vse_gpo.interaction.interaction import Block, Interaction, chosen, hide, item_products

EPSILON = 1e-8
SMALLEST = 1e-30  # square whose root still has a gradient: the scores of padding are 0
SLOPE = 0.1  # of the leaky ReLU that SCAN clips with
Padding = Bool[Tensor, "items queries"] | None


def _unit(scores: Tensor, scale: float) -> Tensor:
    length: Tensor = scores.square().sum(2, keepdim=True).clamp(min=SMALLEST).sqrt()
    return scores * (scale / (length + EPSILON))


def _clipped(scores: Tensor) -> Tensor:
    return functional.leaky_relu(scores, SLOPE)


# scores (contexts, context items, items, queries), normalised over a query's items, times the scale
NORMS: dict[str, Callable[[Tensor, Padding, float], Tensor]] = {
    "clipped_l2": lambda scores, _, scale: _unit(_clipped(scores), scale),
    "l2": lambda scores, _, scale: _unit(scores, scale),
    "clipped": lambda scores, _, scale: scale * _clipped(scores),
    "none": lambda scores, _, scale: scale * scores,
    "softmax": lambda scores, padding, scale: scale * hide(scores, padding, -torch.inf).softmax(2),
}
# cosines (contexts, items, queries) → relevance (contexts, queries)
AGGREGATES: dict[str, Callable[[Tensor, Padding, float], Tensor]] = {
    "lse": lambda cosines, padding, scale: (scale * hide(cosines, padding, -torch.inf)).logsumexp(1) / scale,
    "mean": lambda cosines, padding, _: hide(cosines, padding, torch.nan).nanmean(1),
    "max": lambda cosines, padding, _: hide(cosines, padding, -torch.inf).amax(1),
    "sum": lambda cosines, padding, _: hide(cosines, padding, 0.0).sum(1),
}


class _Scan(Interaction):
    """Both directions: queries attend to contexts.

    Args:
        softmax_scale: λ₁, the factor of the scores in the softmax over a context's items.
        aggregate: of a query's relevances: ``lse`` (log Σ exp(λ₂ R) / λ₂), ``mean``, ``max`` or ``sum``.
        lse_scale: λ₂.
        norm: of the scores over a query's items: ``clipped_l2`` (leaky ReLU, then L2), ``l2``, ``clipped``, ``none`` or
            ``softmax``. The program's two L1 norms call a function that it does not have, and are left out.

    Raises:
        VSEError: if the norm or the aggregate is unknown, or a scale is not above 0.
    """

    def __init__(self, *, softmax_scale: float, aggregate: str, lse_scale: float, norm: str) -> None:
        super().__init__()
        self.norm, self.aggregate = chosen("norm", norm, NORMS), chosen("aggregate", aggregate, AGGREGATES)
        if softmax_scale <= 0 or lse_scale <= 0:
            raise VSEError(f"SCAN with softmax_scale={softmax_scale}, lse_scale={lse_scale}, expected more than 0")
        self.softmax_scale, self.lse_scale = softmax_scale, lse_scale

    def attend(self, contexts: Block, queries: Block) -> Float[Tensor, "contexts queries"]:
        """Relevance of each context for each query: cosines of a query's items and what they attend to, aggregated.

        What an item e attends to, a = Σ αᵢvᵢ, is never formed: e·a = Σ αᵢ(e·vᵢ) and ‖a‖² = αᵀGα, where G is the Gram
        matrix of the context's items. The products of all items are the cost that counts.
        """
        scores = item_products(contexts, queries)
        padding = None if queries.padding is None else queries.padding.T
        padded_context = None if contexts.padding is None else contexts.padding[:, :, None, None]
        normed = self.norm(scores, padding, self.softmax_scale)
        attention = hide(normed, padded_context, -torch.inf).softmax(1)
        values = contexts.values.to(scores.dtype)
        gram = values @ values.mT
        attended = (attention * (gram @ attention.flatten(2)).view_as(attention)).sum(1)  # ‖a‖²
        squares = queries.values.to(scores.dtype).square().sum(2).T
        cosines = (attention * scores).sum(1) / (attended * squares).clamp(min=EPSILON**2).sqrt()
        return self.aggregate(cosines, padding, self.lse_scale)


class ScanTextToImage(_Scan):
    """Each word attends to the regions of an image, and is compared with what it attends to."""

    def __init__(
        self, softmax_scale: float = 9.0, aggregate: str = "lse", lse_scale: float = 6.0, norm: str = "clipped_l2"
    ) -> None:
        super().__init__(softmax_scale=softmax_scale, aggregate=aggregate, lse_scale=lse_scale, norm=norm)

    def compare(self, images: Block, captions: Block) -> Float[Tensor, "images captions"]:
        return self.attend(images, captions)


class ScanImageToText(_Scan):
    """Each region attends to the words of a caption, and is compared with what it attends to."""

    def __init__(
        self, softmax_scale: float = 4.0, aggregate: str = "lse", lse_scale: float = 5.0, norm: str = "clipped_l2"
    ) -> None:
        super().__init__(softmax_scale=softmax_scale, aggregate=aggregate, lse_scale=lse_scale, norm=norm)

    def compare(self, images: Block, captions: Block) -> Float[Tensor, "images captions"]:
        return self.attend(captions, images).T
