"""The item sets of a split, which an interaction compares pair by pair."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor
from torchmetrics.utilities.distributed import gather_all_tensors

from vse_gpo.batch import Features, join_features, pad_sets
from vse_gpo.errors import VSEError
from vse_gpo.interaction import Interaction
from vse_gpo.retrieval.reranking import Rescore


@dataclass(frozen=True)
class ComparedSets:
    """Sets of images and captions, and the interaction that compares them.

    Args:
        interaction: (images, captions) → similarity.
        images, captions: unit items of each.
    """

    interaction: Interaction
    images: Sequence[Float[Tensor, "_ dim"]]
    captions: Sequence[Float[Tensor, "_ dim"]]

    def __str__(self) -> str:
        return ""  # a protocol's name says what is re-ordered

    def searched(self, direction: str) -> Rescore:
        """Similarity of a query of ``i2t`` or ``t2i`` and some items of its gallery."""

        def of_image(query: int, items: Int[Tensor, " first"]) -> Float[Tensor, " first"]:
            return self._compare([self.images[query]], [self.captions[row] for row in items.tolist()])[0]

        def of_caption(query: int, items: Int[Tensor, " first"]) -> Float[Tensor, " first"]:
            return self._compare([self.images[row] for row in items.tolist()], [self.captions[query]])[:, 0]

        return of_image if direction == "i2t" else of_caption

    def part(self, images: Int[Tensor, " images"], captions: Int[Tensor, " captions"]) -> "ComparedSets":
        """The sets of some images and captions."""
        return replace(
            self,
            images=[self.images[row] for row in images.tolist()],
            captions=[self.captions[row] for row in captions.tolist()],
        )

    @torch.inference_mode()
    def _compare(self, images: list[Tensor], captions: list[Tensor]) -> Float[Tensor, "images captions"]:
        similarity: Tensor = self.interaction(Features(*pad_sets(images)), Features(*pad_sets(captions)))
        return similarity


Rows = list[tuple[Float[Tensor, "_ columns"], Int[Tensor, " _"]]]  # parts of a table, and where they belong


def rows_in_order(collected: Rows, rows: int, what: str, processes: int) -> Float[Tensor, "rows columns"]:
    """A table with every row of the split, from all processes; an item that was encoded twice counts once."""
    values, index = (torch.cat(parts) for parts in zip(*collected, strict=True))
    if processes > 1:
        values, index = torch.cat(gather_all_tensors(values)), torch.cat(gather_all_tensors(index))
    seen = torch.bincount(index, minlength=rows) > 0
    if not seen.all():
        raise VSEError(f"{int((~seen).sum())} of {rows} {what} were not encoded; evaluate the whole split")
    table = torch.empty(rows, values.shape[1], device=values.device)
    table[index] = values
    return table


Sets = tuple[Features, Int[Tensor, " _"]]  # and their rows in the split


@torch.inference_mode()
def interaction_in_order(
    interaction: Interaction,
    images: Sequence[Sets],
    captions: Sequence[Sets],
    shape: tuple[int, int],
    processes: int,
) -> Float[Tensor, "images captions"]:
    """Similarity of every image and every caption of a split; each process compares its own images with all captions.

    Args:
        interaction: compares the items.
        images, captions: batches of this process.
        shape: number of images and of captions in the split.
        processes: of the evaluation.
    """
    own = join_features([items for items, _ in images])
    table = own.values.new_empty(len(own.lengths), shape[1])
    for items, rows in _of_all_processes(captions, processes):
        table[:, rows] = interaction(own, items)
    return rows_in_order([(table, torch.cat([rows for _, rows in images]))], shape[0], "images", processes)


def sets_in_order(batches: Sequence[Sets], count: int, processes: int) -> list[Float[Tensor, "_ dim"]]:
    """The set of every row of the split, from all processes.

    Args:
        batches: those of this process.
        count: number of rows in the split.
        processes: of the evaluation.
    """
    found: dict[int, Tensor] = {}
    for items, rows in _of_all_processes(batches, processes):
        for values, length, row in zip(items.values, items.lengths.tolist(), rows.tolist(), strict=True):
            found[row] = values[:length]
    return [found[row] for row in range(count)]


def _of_all_processes(own: Sequence[Sets], processes: int) -> Iterator[Sets]:
    """The batches of all processes, one of each at a time: those of one process would fill the memory of the others."""
    if processes == 1:
        yield from own
        return
    (first, rows), device = own[0], own[0][1].device
    none = (Features(first.values[:0], first.lengths[:0]), rows[:0])
    counts = gather_all_tensors(torch.tensor(len(own), device=device))
    for number in range(int(torch.stack(counts).max())):
        (values, lengths), rows = own[number] if number < len(own) else none
        parts: list[list[Shaped[Tensor, "batch ..."]]] = [
            gather_all_tensors(part) for part in (values, lengths.to(device), rows)
        ]
        for values, lengths, rows in zip(*parts, strict=True):
            if len(rows):
                yield Features(values, lengths.cpu()), rows
