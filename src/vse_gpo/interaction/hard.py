"""Late interaction: each item takes its best match on the other side."""

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from vse_gpo.errors import VSEError
from vse_gpo.interaction.interaction import Block, Interaction, chosen, hide, item_products

Matches = tuple[Tensor, Bool[Tensor, "..."] | None]  # best match (images, items, captions) of each item; its padding


def _of_words(products: Float[Tensor, "images regions words captions"], images: Block, captions: Block) -> Matches:
    padding = None if images.padding is None else images.padding[:, :, None, None]
    return hide(products, padding, -torch.inf).amax(1), None if captions.padding is None else captions.padding.T


def _of_regions(products: Float[Tensor, "images regions words captions"], images: Block, captions: Block) -> Matches:
    padding = None if captions.padding is None else captions.padding.T
    return hide(products, padding, -torch.inf).amax(2), None if images.padding is None else images.padding[:, :, None]


DIRECTIONS: dict[str, list[Callable[[Tensor, Block, Block], Matches]]] = {
    "t2i": [_of_words],
    "i2t": [_of_regions],
    "both": [_of_words, _of_regions],
}
AGGREGATES: dict[str, Callable[[Tensor, Bool[Tensor, "..."] | None, float], Tensor]] = {
    "mean": lambda best, padding, _: hide(best, padding, torch.nan).nanmean(1),
    "sum": lambda best, padding, _: hide(best, padding, 0.0).sum(1),
    "logsumexp": lambda best, padding, temperature: (hide(best, padding, -torch.inf) / temperature).logsumexp(1),
}


class MaxSim(Interaction):
    """The best match of each item, averaged or summed over the items.

    FILIP (Yao et al., ICLR 2022) takes the mean in both directions, ColBERT (Khattab and Zaharia, SIGIR 2020) the sum
    over the words: ``MaxSim("t2i", "sum")``.

    Args:
        direction: ``t2i``: each word takes its best region; ``i2t``: each region its best word; ``both``: their mean.
        aggregate: of the best matches: ``mean``, ``sum`` or ``logsumexp`` (log Σ exp(s / temperature)).
        temperature: of ``logsumexp``.

    Raises:
        VSEError: if the direction or the aggregate is unknown, or the temperature is not above 0.
    """

    def __init__(self, direction: str = "both", aggregate: str = "mean", temperature: float = 0.1) -> None:
        super().__init__()
        self.matches = chosen("direction", direction, DIRECTIONS)
        self.aggregate = chosen("aggregate", aggregate, AGGREGATES)
        if temperature <= 0:
            raise VSEError(f"an interaction with temperature={temperature}, expected more than 0")
        self.temperature = temperature

    def compare(self, images: Block, captions: Block) -> Float[Tensor, "images captions"]:
        products = item_products(images, captions)
        parts = [self.aggregate(*matches(products, images, captions), self.temperature) for matches in self.matches]
        return torch.stack(parts).mean(0)


class HardAssignment(MaxSim):
    """CHAN (Pan et al., CVPR 2023): each word takes its best region; with BERT the mean, with a BiGRU ``logsumexp``.

    Args:
        aggregate: ``mean`` or ``logsumexp``.
        temperature: of ``logsumexp``.

    Raises:
        VSEError: if the aggregate is unknown, or the temperature is not above 0.
    """

    def __init__(self, aggregate: str = "mean", temperature: float = 0.1) -> None:
        super().__init__("t2i", aggregate, temperature)
