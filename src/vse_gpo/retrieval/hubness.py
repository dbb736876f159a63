"""Corrections of hubness at test time: a bank of other pairs tells which items of a gallery are found too easily."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float, Int
from torch import Tensor

from vse_gpo.errors import VSEError
from vse_gpo.retrieval.counts import TIE
from vse_gpo.retrieval.similarity import MeanSimilarity, Similarity

NUMBERS_AT_ONCE = 2**22  # of a block in float64: 32 MiB


class BankSearch(NamedTuple):
    """What a bank knows about one direction."""

    queries: Similarity  # queries of the bank × gallery of the test set
    among: Similarity  # queries of the bank × gallery items of the bank


@runtime_checkable
class Beside(Protocol):
    """What a correction knows beside the similarities of a test set, such as a bank of other pairs."""

    def searched(self, direction: str) -> Any:
        """What it knows about ``i2t`` or ``t2i``."""

    def part(self, images: Int[Tensor, " images"], captions: Int[Tensor, " captions"]) -> "Beside":
        """The same beside some images and captions of the test set."""


Correction = Callable[[Similarity, Any], Similarity]  # queries × gallery and what is beside them → the same, corrected


@dataclass(frozen=True, kw_only=True)
class Bank:
    """Pairs of images and captions beside a test set, as one model or an ensemble compares them.

    Args:
        image_caption: images × captions of the bank.
        image_tested: images of the bank × captions of the test set.
        tested_caption: images of the test set × captions of the bank.
        caption_to_image: row of the image of each of the bank's captions.
    """

    image_caption: Similarity
    image_tested: Similarity
    tested_caption: Similarity
    caption_to_image: npt.NDArray[np.int64]

    def __str__(self) -> str:
        images, captions = self.image_caption.shape
        return f"bank of {images:,} images and {captions:,} captions"

    def searched(self, direction: str) -> BankSearch:
        """What it knows about ``i2t`` or ``t2i``."""
        if direction == "i2t":
            return BankSearch(self.image_tested, self.image_caption)
        return BankSearch(self.tested_caption.transpose(), self.image_caption.transpose())

    def part(self, images: Int[Tensor, " images"], captions: Int[Tensor, " captions"]) -> "Bank":
        """The bank beside some images and captions of the test set."""
        everyone = [torch.arange(size, device=images.device) for size in self.image_caption.shape]
        return Bank(
            image_caption=self.image_caption,
            image_tested=self.image_tested.select(everyone[0], captions),
            tested_caption=self.tested_caption.select(images, everyone[1]),
            caption_to_image=self.caption_to_image,
        )


def mean_bank(banks: Sequence[Bank]) -> Bank:
    """The bank of an ensemble.

    Raises:
        VSEError: if the members' banks hold different pairs, as far as can be told.
    """
    first = banks[0]
    if any(bank.caption_to_image.tolist() != first.caption_to_image.tolist() for bank in banks):
        raise VSEError(f"an ensemble with different banks: {', '.join(map(str, banks))}; give all members one bank")
    return Bank(
        image_caption=MeanSimilarity([bank.image_caption for bank in banks]),
        image_tested=MeanSimilarity([bank.image_tested for bank in banks]),
        tested_caption=MeanSimilarity([bank.tested_caption for bank in banks]),
        caption_to_image=first.caption_to_image,
    )


class QueryBankNormalization:
    """QB-Norm's dynamic inverted softmax (Bogolin et al., CVPR 2022).

    exp(βs) of a query and an item is divided by the sum of exp(βs) over the bank's queries and this item, if the item
    that the query finds first is among the first k of a query of the bank. Other queries keep their similarities. Here
    a corrected query's entries are log(·)/β, which ranks alike.

    Args:
        inverse_temperature: β; 20 as published.
        k: items that each query of the bank activates; 1 as published. Items that tie with the last are activated too.

    Raises:
        VSEError: if a number is not positive.
    """

    def __init__(self, *, inverse_temperature: float = 20.0, k: int = 1) -> None:
        _check_positive("qbnorm", inverse_temperature=inverse_temperature, k=k)
        self.inverse_temperature = inverse_temperature
        self.k = k

    def __call__(self, similarity: Similarity, bank: BankSearch) -> "Shifted":
        scale, gallery = self.inverse_temperature, similarity.shape[1]
        sums = torch.full((gallery,), -torch.inf, dtype=torch.float64, device=similarity.device)
        activated = torch.zeros(gallery, dtype=torch.bool, device=similarity.device)
        for _, values in exact_blocks(bank.queries):
            sums = torch.logaddexp(sums, (scale * values).logsumexp(0))
            last = values.topk(min(self.k, gallery), dim=1).values[:, -1:]
            activated |= (values >= last - TIE).any(0)
        corrected = torch.zeros(similarity.shape[0], dtype=torch.float64, device=similarity.device)
        for rows, values in exact_blocks(similarity):
            first = values >= values.amax(1, keepdim=True) - TIE
            corrected[rows] = (first & activated).any(1).double()
        return Shifted(similarity, corrected, -sums / scale)


class DualBankSinkhorn:
    """DBSN, dual bank Sinkhorn normalisation (Pan et al., ACM Multimedia 2025).

    Sinkhorn's iterations balance exp(s/τ) of the bank's queries with the gallery and the bank's own items: every query
    and every item ends with the same share. An item's factor u then corrects it for all queries: s + τ log u.

    Args:
        temperature: τ; 0.01 as released.
        iterations: 10 as released for images.

    Raises:
        VSEError: if a number is not positive.
    """

    def __init__(self, *, temperature: float = 0.01, iterations: int = 10) -> None:
        _check_positive("dbsn", temperature=temperature, iterations=iterations)
        self.temperature = temperature
        self.iterations = iterations

    def __call__(self, similarity: Similarity, bank: BankSearch) -> "Shifted":
        queries, gallery = similarity.shape
        items = gallery + bank.among.shape[1]
        log_u = torch.zeros(items, dtype=torch.float64, device=similarity.device)
        for _ in range(self.iterations):
            sums = torch.full_like(log_u, -torch.inf)
            for _, values in exact_blocks(bank.queries, bank.among):
                logits = values.div_(self.temperature)
                log_v = -math.log(bank.among.shape[0]) - (logits + log_u).logsumexp(1, keepdim=True)
                sums = torch.logaddexp(sums, (logits + log_v).logsumexp(0))
            log_u = -math.log(items) - sums
        return Shifted(similarity, log_u.new_ones(queries), self.temperature * log_u[:gallery])


def _check_positive(correction: str, **numbers: float) -> None:
    for name, value in numbers.items():
        if not (value > 0 and math.isfinite(value)):
            raise VSEError(f"{correction} with {name}={value}, expected a number above 0")


def exact_blocks(*side_by_side: Similarity) -> Iterator[tuple[slice, Float[Tensor, "rows columns"]]]:
    """Whole rows of matrices side by side, in float64, as many at once as memory allows."""
    rows, columns = side_by_side[0].shape[0], sum(one.shape[1] for one in side_by_side)
    at_once = max(1, NUMBERS_AT_ONCE // columns)
    for start in range(0, rows, at_once):
        part = slice(start, min(start + at_once, rows))
        yield part, torch.cat([one.exact_tile(part, slice(0, one.shape[1])) for one in side_by_side], dim=1)


class Shifted:
    """A similarity plus the product of a number of its row and a number of its column.

    Args:
        similarity: rows × columns.
        rows, columns: float64 numbers.
    """

    def __init__(
        self, similarity: Similarity, rows: Float[Tensor, " rows"], columns: Float[Tensor, " columns"]
    ) -> None:
        self.similarity = similarity
        self.rows, self.columns = rows, columns
        self.shape = similarity.shape
        self.device = similarity.device
        # a float32 tile's margin is at least the rounding of its largest entry
        rounding = 2 * torch.finfo(torch.float32).eps * float(rows.abs().max() * columns.abs().max())
        above, below = similarity.margins
        self.margins = (2 * above + rounding, 2 * below + rounding)

    def tile(
        self, rows: slice, columns: slice, out: Float[Tensor, "rows columns"] | None = None
    ) -> Float[Tensor, "rows columns"]:
        return self.similarity.tile(rows, columns, out).addr_(self.rows[rows].float(), self.columns[columns].float())

    def exact_tile(self, rows: slice, columns: slice) -> Float[Tensor, "rows columns"]:
        return self.similarity.exact_tile(rows, columns).addr_(self.rows[rows], self.columns[columns])

    def pairs(self, rows: Int[Tensor, " pairs"], columns: Int[Tensor, " pairs"]) -> Float[Tensor, " pairs"]:
        return self.similarity.pairs(rows, columns) + self.rows[rows] * self.columns[columns]

    def select(self, rows: Int[Tensor, " rows"], columns: Int[Tensor, " columns"]) -> "Shifted":
        return Shifted(self.similarity.select(rows, columns), self.rows[rows], self.columns[columns])

    def transpose(self) -> "Shifted":
        return Shifted(self.similarity.transpose(), self.columns, self.rows)


CORRECTIONS: dict[str, Correction] = {"qbnorm": QueryBankNormalization(), "dbsn": DualBankSinkhorn()}
