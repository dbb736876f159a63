"""Items and order of the loaders: pairs for training, single images and captions for evaluation."""

import copy
import heapq
import multiprocessing
import warnings
from collections.abc import Iterator, Sequence
from itertools import cycle, islice
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from vse_gpo.batch import Batch, Indexed
from vse_gpo.data.captions import collate_tokens
from vse_gpo.data.orders import Order
from vse_gpo.data.preparation import CaptionPreparation, ImagePreparation
from vse_gpo.data.split import ImageReadError, Split
from vse_gpo.errors import VSEError

AROUND, TRIES = 500, 100  # rows around an unreadable pair that another comes from, and how many are tried
SHOWN = 8  # unreadable images that are named; of the others the 16th, the 32nd, …
LIKELY = 8  # of so many captions with the most bytes, one has the most tokens


class Draw(NamedTuple):
    """Index of a pair and the seed of its random augmentation."""

    pair: int
    seed: tuple[int, int]


class Pair(NamedTuple):
    image: Tensor
    tokens: Tensor
    image_index: int
    caption_index: int
    dense: Tensor | None  # tokens of a long description of the image


class Unreadable:
    """Counts the images that could not be read, in all loader processes, and names the first, then fewer and fewer.

    Args:
        name: of the split.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.count = multiprocessing.get_context().Value("q", 0)

    def tell(self, message: str) -> None:
        """Count one more."""
        with self.count.get_lock():
            self.count.value += 1
            count = self.count.value
        if count <= SHOWN or count & (count - 1) == 0:
            warnings.warn(f"{self.name}: {message}; another pair was taken, as for {count:,} so far", stacklevel=2)


class TrainingPairs(Dataset[Pair]):
    """One augmented pair per caption, with one of the image's dense captions if the split has them.

    In the place of an ``ImageReadError`` comes another pair, which follows from the draw.
    """

    def __init__(self, split: Split, images: ImagePreparation, captions: CaptionPreparation) -> None:
        self.split = split
        self.images = images
        self.captions = captions
        self.unreadable = Unreadable(split.name)

    def __len__(self) -> int:
        return len(self.split.captions)

    def __getitem__(self, draw: Draw) -> Pair:
        try:
            return self._augmented(draw)
        except ImageReadError as error:
            self.unreadable.tell(str(error))
        return self._instead_of(draw)

    def _augmented(self, draw: Draw) -> Pair:
        random = np.random.default_rng((*draw.seed, draw.pair))
        row = int(self.split.caption_to_image[draw.pair])
        image = self.images.encode(self.split.images[row], random)
        tokens, dense = self.captions.encode(self.split.captions[draw.pair], random), None
        if self.split.dense:  # drawn last: the same image and caption as without
            choices = self.split.dense[row]
            dense = self.captions.encode(choices[int(random.integers(len(choices)))], random)
        return Pair(image, tokens, row, draw.pair, dense)

    def _instead_of(self, draw: Draw) -> Pair:
        """A pair in the place of one that cannot be read, out of those around it: they lie in the same shard.

        It follows from the draw alone, so a resumed run takes the same.

        Raises:
            VSEError: if none of many can be read.
        """
        random = np.random.default_rng((*draw.seed, draw.pair, 1))
        first, end = max(0, draw.pair - AROUND), min(len(self), draw.pair + AROUND)
        for _ in range(TRIES):
            try:
                return self._augmented(draw._replace(pair=int(random.integers(first, end))))
            except ImageReadError as error:
                last = error
        raise VSEError(f"none of {TRIES} images around pair {draw.pair} can be read: {last}")

    def collate(self, pairs: list[Pair]) -> Batch:
        images, tokens, rows, captions, dense = zip(*pairs, strict=True)
        return Batch(
            self.images.collate(list(images)),
            collate_tokens(list(tokens)),
            torch.tensor(rows),
            torch.tensor(captions),
            collate_tokens(list(dense)) if self.split.dense else None,
        )


def largest_batch(split: Split, images: ImagePreparation, captions: CaptionPreparation, pairs: int) -> Batch:
    """A batch of the longest captions, the longest first: no batch of a training takes more memory.

    Images of a split have one size, or sets of one size, so the first one stands for all. Nothing is augmented, which
    only makes captions shorter. The longest dense captions are there too, whatever their images. The parts that encode
    are not changed, nor do they warn: they do so in the training.

    Args:
        split: of the training.
        images, captions: prepare the inputs.
        pairs: size of the batch.
    """
    tokens = _longest(split.captions, captions, pairs)
    dense = _longest([text for texts in split.dense for text in texts], captions, pairs)
    image_index = torch.from_numpy(split.caption_to_image[list(tokens)])
    image = images.encode(split.images[int(image_index[0])])
    return Batch(
        images.collate(pairs * [image]),
        collate_tokens([*tokens.values()]),
        image_index,
        torch.tensor([*tokens]),
        # as many as pairs, though images have fewer
        collate_tokens([*islice(cycle(dense.values()), pairs)]) if dense else None,
    )


def _longest(texts: Sequence[str], captions: CaptionPreparation, count: int) -> dict[int, Tensor]:
    """Row → tokens of the longest texts, the longest first."""
    encode = copy.deepcopy(captions).encode
    in_bytes = [len(text.encode()) for text in texts]
    likely = heapq.nlargest(LIKELY * count, range(len(in_bytes)), key=in_bytes.__getitem__)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tokens = {row: encode(texts[row]) for row in likely}
    rows = sorted(likely, key=lambda row: len(tokens[row]), reverse=True)[:count]
    return {row: tokens[row] for row in rows}


class EvaluationImages(Dataset[tuple[Tensor, int]]):
    """Every image once, without augmentation."""

    def __init__(self, split: Split, images: ImagePreparation) -> None:
        self.split = split
        self.images = images

    def __len__(self) -> int:
        return len(self.split.images)

    def __getitem__(self, row: int) -> tuple[Tensor, int]:
        return self.images.encode(self.split.images[row]), row

    def collate(self, items: list[tuple[Tensor, int]]) -> Indexed:
        images, rows = zip(*items, strict=True)
        return Indexed(self.images.collate(list(images)), torch.tensor(rows))


class EvaluationCaptions(Dataset[tuple[Tensor, int]]):
    """Every caption once, without noise; its tokens are kept for the next evaluation.

    Each loader process keeps its own tokens: every evaluation asks it for the same captions.
    """

    def __init__(self, split: Split, captions: CaptionPreparation) -> None:
        self.split = split
        self.captions = captions
        self._kept: dict[int, npt.NDArray[np.int32]] = {}  # 32 bits: a quarter of a tensor's memory

    def __len__(self) -> int:
        return len(self.split.captions)

    def __getitem__(self, row: int) -> tuple[Tensor, int]:
        if row not in self._kept:
            self._kept[row] = self.captions.encode(self.split.captions[row]).numpy().astype(np.int32)
        return torch.from_numpy(self._kept[row]).long(), row

    def collate(self, items: list[tuple[Tensor, int]]) -> Indexed:
        sequences, rows = zip(*items, strict=True)
        return Indexed(collate_tokens(list(sequences)), torch.tensor(rows))


class TrainingBatches(Sampler[list[Draw]]):
    """Shuffled batches of pairs; this process's share of each global batch.

    The order and every pair's seed depend only on (seed, epoch): any number of processes draws the same global
    batches, and a resumed run continues where it stopped. Processes get equal shares, so a last batch that does not
    divide evenly loses up to ``processes - 1`` pairs.

    Args:
        pairs: number of training pairs.
        batch_size: pairs per global batch, over all processes.
        seed: seed of the run.
        drop_last: leave out the last batch if it is smaller.
        rank, processes: rank of this process, and the number of processes.
        order: generator → rows of an epoch's pairs, such as ``distinct_order``; None mixes them all.
    """

    def __init__(
        self,
        pairs: int,
        *,
        batch_size: int,
        seed: int,
        drop_last: bool,
        rank: int = 0,
        processes: int = 1,
        order: Order | None = None,
    ) -> None:
        if batch_size % processes:
            raise VSEError(f"batch size {batch_size} is not a multiple of {processes} processes; change one of them")
        self.pairs = pairs
        self.batch_size = batch_size
        self.seed = seed
        self.drop_last = drop_last
        self.rank = rank
        self.processes = processes
        self.order = order
        self.epoch = 0
        self.first_batch = 0
        if len(self) == 0:
            raise VSEError(f"{pairs} training pairs do not fill one batch of {batch_size}; lower the batch size")

    @property
    def sampler(self) -> "TrainingBatches":
        """Where Lightning looks for the ``set_epoch`` of a batch sampler."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning before each epoch; a new epoch starts from its first batch."""
        if epoch != self.epoch:
            self.epoch, self.first_batch = epoch, 0

    def __len__(self) -> int:
        batches, rest = divmod(self.pairs, self.batch_size)
        # a last batch with fewer pairs than processes could not be shared
        return batches + (not self.drop_last and rest >= self.processes)

    def __iter__(self) -> Iterator[list[Draw]]:
        random = np.random.default_rng((self.seed, self.epoch))
        order = random.permutation(self.pairs) if self.order is None else self.order(random)
        for batch in range(self.first_batch, len(self)):
            pairs = order[batch * self.batch_size : (batch + 1) * self.batch_size]
            pairs = pairs[: len(pairs) // self.processes * self.processes]  # equal shares
            yield [Draw(int(pair), (self.seed, self.epoch)) for pair in pairs[self.rank :: self.processes]]


class EvaluationShare(Sampler[int]):
    """This process's share of a data set, without padding, which would count items twice."""

    def __init__(self, items: int, *, rank: int = 0, processes: int = 1) -> None:
        self.rows = range(rank, items, processes)

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[int]:
        return iter(self.rows)
