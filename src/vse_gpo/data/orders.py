"""Orders in which training draws the pairs of an epoch, where they are not just mixed."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Order = Callable[[np.random.Generator], npt.NDArray[np.int64]]  # rows of an epoch's pairs, each once


@dataclass(frozen=True)
class Turns:
    """For spinning disks and object stores: shards take turns, and only the pairs of those whose turn it is are mixed.

    As a stream's shuffle buffer, but an order: any number of processes draws the same, and a run resumes anywhere.

    Args:
        bounds: row of each shard's first pair, and the number of all pairs.
        at_once: shards in a turn.
    """

    bounds: npt.NDArray[np.int64]
    at_once: int

    def order(self, random: np.random.Generator) -> npt.NDArray[np.int64]:
        """Rows of all pairs, each once.

        Args:
            random: decides which shards share a turn, and the order within.
        """
        shards = random.permutation(len(self.bounds) - 1)
        turns = np.split(shards, range(self.at_once, len(shards), self.at_once))
        rows = [
            np.concatenate([np.arange(self.bounds[shard], self.bounds[shard + 1]) for shard in turn]) for turn in turns
        ]
        return np.concatenate([random.permutation(turn) for turn in rows])

    def head(self, pairs: int) -> "Turns":
        """The same of the first pairs."""
        return Turns(np.unique(np.minimum(self.bounds, pairs)), self.at_once)

    def __str__(self) -> str:
        """What a run says of it."""
        return f"pairs are drawn from {self.at_once} of {len(self.bounds) - 1} shards at a time"


def distinct_order(
    images: npt.NDArray[np.int64], batch_size: int, random: np.random.Generator
) -> npt.NDArray[np.int64]:
    """Order all pairs so that no batch holds an image twice.

    The images are shuffled, and their pairs are dealt to the batches like cards, each round in a new order of the
    batches. If a round continues an image, the batches that already hold it come last. An image with at least as many
    captions as there are batches may occur twice in a batch; its captions then spread evenly.

    Args:
        images: row of each pair's image.
        batch_size: pairs per batch; the last may have fewer.
        random: decides the whole order.
    """
    batches = -(-len(images) // batch_size)
    in_last = len(images) - (batches - 1) * batch_size
    shuffled = random.permutation(len(images))
    by_image = shuffled[np.argsort(random.permutation(images.max() + 1)[images[shuffled]], kind="stable")]
    hands = np.where(np.arange(min(batch_size, len(images))) < in_last, batches, batches - 1)
    order = np.empty_like(by_image)
    held, times = -1, np.zeros(batches, dtype=np.int64)  # an image and how often each batch holds it
    for place, pairs in enumerate(np.split(by_image, np.cumsum(hands)[:-1])):
        dealt = images[pairs]
        if dealt[0] != held:
            times[:] = 0
        to = random.permutation(len(pairs))
        to = to[np.argsort(times[to], kind="stable")]
        order[to * batch_size + place] = pairs
        if dealt[-1] != held:
            held = dealt[-1]
            times[:] = 0
        times[to[dealt == held]] += 1
    return order
