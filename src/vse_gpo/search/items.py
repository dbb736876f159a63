"""Compact sets of items: what an index keeps of each image for a model with an interaction.

Similar items are merged ("token pooling", Clavié et al. 2024: a third of the items at hardly any loss for texts), and
each is stored in few bytes.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from vse_gpo.batch import Features
from vse_gpo.encoder import normalize
from vse_gpo.errors import VSEError, did_you_mean
from vse_gpo.retrieval.similarity import check_finite

NUMBERS = {"int8": torch.int8, "float16": torch.float16, "float32": torch.float32}
LARGEST = 127  # of int8, used symmetrically

Owners = Int[Tensor, "images cells"]  # number of the stored item that each item of an encoder was merged into


class ItemSets(NamedTuple):
    """Stored sets, one of each image, all of one size: the images of an index have equally many cells."""

    values: Shaped[Tensor, "images items dim"]  # of one of ``NUMBERS``
    scales: Float[Tensor, "images items"]  # an item is its values times its scale
    owners: Owners  # bytes, or int16 for more than 256 items

    def features(self) -> Features:
        """The items in float32, of unit length but for rounding."""
        values = self.values.float() * self.scales[:, :, None]
        return Features(values, torch.full(values.shape[:1], values.shape[1]))


AUTO = "auto"


@dataclass(frozen=True)
class Compaction:
    """How sets of items are stored.

    Args:
        most: items of each image; None keeps all.
        numbers: ``int8`` with a scale for each item, ``float16`` or ``float32``.

    Raises:
        VSEError: if there are no such numbers, or ``most`` is no positive number.
    """

    most: int | None
    numbers: str

    def __post_init__(self) -> None:
        if self.numbers not in NUMBERS:
            hint = did_you_mean(str(self.numbers), NUMBERS)
            raise VSEError(f"item_dtype={self.numbers}{hint}, expected {', '.join(NUMBERS)}")
        if self.most is not None and (type(self.most) is not int or not 1 <= self.most < 2**15):
            raise VSEError(f"items={self.most}, expected 1 to {2**15 - 1:,} of each image, or null for all")

    def __str__(self) -> str:
        return f"{'all' if self.most is None else self.most} of each image, {self.numbers}"

    def __call__(self, items: Features, whole: int = 0) -> ItemSets:
        """Merge and round the items of a batch of images.

        Args:
            items: of unit length; all sets have the same size.
            whole: items at the front that stand for the whole image and are merged with no other.

        Raises:
            VSEError: if an item holds NaN or infinity, or the sets have several sizes.
        """
        if not (items.lengths == items.values.shape[1]).all():
            raise VSEError("images with different numbers of items, expected a grid, whose cells are equally many")
        values = items.values.float().cpu()
        check_finite("item", values.flatten(0, 1))
        owners = torch.stack([_owners(one, self.most, whole) for one in values.numpy()])
        kept = int(owners.max()) + 1
        merged = values if kept == values.shape[1] else mean_of_owned(values, owners, kept)
        return ItemSets(*rounded(merged, NUMBERS[self.numbers]), owners.to(torch.uint8 if kept <= 256 else torch.int16))


DEFAULT = Compaction(most=16, numbers="int8")


def choose_compaction(
    items: int | str | None, numbers: str, *, former: Compaction | None, is_new: bool, has_interaction: bool
) -> Compaction | None:
    """How an index is to store sets of items; None keeps none.

    Args:
        items: of each image; None keeps all, 0 none, ``auto`` as many as the existing index, or 16.
        numbers: see ``Compaction``; ``auto`` takes those of the existing index, or int8.
        former: of the existing index.
        is_new: whether there is no index yet.
        has_interaction: whether the model compares items.

    Raises:
        VSEError: if sets are asked for that no model compares, or of another kind.
    """
    if not has_interaction:
        if (items, numbers) == (AUTO, AUTO) or items == 0:
            return None
        raise VSEError(
            f"items={items} item_dtype={numbers}: the model has no interaction, so that items would never be "
            "compared; leave both out, or train a model with interaction=maxsim or another"
        )
    if items == 0 or ((items, numbers) == (AUTO, AUTO) and former is None and not is_new):
        return None
    known = former or DEFAULT
    most: Any = known.most if items == AUTO else items
    return Compaction(most, known.numbers if numbers == AUTO else numbers)


def merge_similar(items: Float[np.ndarray, "items dim"], most: int) -> Int[Tensor, " items"]:
    """The cluster of each item when the most similar ones are merged until ``most`` are left; numbered as they appear.

    Ward's method joins the two clusters whose union is the tightest, as in the paper.

    Args:
        items: of one image.
        most: clusters to keep.

    Raises:
        VSEError: if SciPy is not installed.
    """
    try:
        from scipy.cluster.hierarchy import ward  # noqa: PLC0415, half a second, and a search merges nothing
    except ImportError as error:
        raise VSEError("sets of items need SciPy, which is not installed; pip install 'vse_gpo[search]'") from error

    labels = np.arange(len(items))
    if len(items) > most:
        for number, (first, second) in enumerate(ward(items)[: len(items) - most, :2].astype(int)):
            labels[(labels == first) | (labels == second)] = len(items) + number
    _, appearance, inverse = np.unique(labels, return_index=True, return_inverse=True)
    return torch.from_numpy(appearance.argsort().argsort()[inverse])


def _owners(items: npt.NDArray[np.float32], most: int | None, whole: int) -> Int[Tensor, " items"]:
    if most is None or len(items) <= most:
        return torch.arange(len(items))
    whole = min(whole, most - 1)
    return torch.cat([torch.arange(whole), whole + merge_similar(items[whole:], most - whole)])


def mean_of_owned(
    values: Float[Tensor, "images cells dim"], owners: Owners, kept: int
) -> Float[Tensor, "images items dim"]:
    """Unit means of the items that were merged.

    Args:
        values: items before.
        owners: see ``ItemSets``.
        kept: number of items after.
    """
    membership = torch.nn.functional.one_hot(owners, kept).to(values.dtype)
    return normalize(membership.mT @ values)


def rounded(
    values: Float[Tensor, "images items dim"], numbers: torch.dtype
) -> tuple[Shaped[Tensor, "images items dim"], Float[Tensor, "images items"]]:
    """Values in other numbers, and the scale of each item: that of bytes makes its largest value 127.

    Args:
        values: items.
        numbers: one of ``NUMBERS``.
    """
    if numbers.is_floating_point:
        return values.to(numbers), torch.ones(values.shape[:2])
    scales = values.abs().amax(2).clamp(min=torch.finfo(torch.float32).tiny) / LARGEST
    return (values / scales[:, :, None]).round().to(numbers), scales


def check_sets(sets: ItemSets, remedy: str) -> None:
    """Refuse stored sets that hold NaN or infinity, or name an item that they do not have.

    Args:
        sets: as read from a file.
        remedy: what to do then.

    Raises:
        VSEError: if they do.
    """
    items = sets.values.shape[1]
    owned = bool(((sets.owners >= 0) & (sets.owners < items)).all())
    numbers = [part for part in sets if part.is_floating_point()]
    if not owned or not all(part.isfinite().all() for part in numbers):
        raise VSEError(f"a damaged index, its sets of items hold what no model gives; {remedy}")
