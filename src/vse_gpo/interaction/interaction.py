"""What every interaction shares: blocks of bounded memory, and padding that takes no part."""

from collections.abc import Iterator
from typing import NamedTuple, TypeVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from vse_gpo.batch import Features, hand_over, valid_items
from vse_gpo.errors import VSEError
from vse_gpo.precision import full_product

T = TypeVar("T")
# similarities of single items in a block: without gradients they stay in a processor's cache
AT_ONCE, AT_ONCE_WITH_GRADIENT = 2**20, 2**25
PADDED = 1.25  # rows of a block for each of its items, where sets of several sizes share it


class Block(NamedTuple):
    """Sets of similar length."""

    values: Float[Tensor, "sets items dim"]  # zero where there is padding; in the precision of their products
    padding: Bool[Tensor, "sets items"] | None  # None if there is none


class Interaction(nn.Module):
    """Base of the interactions: it cuts the sets into blocks, and a subclass compares the sets of a block.

    A block has about ``AT_ONCE`` similarities of single items, at least those of one image and one caption. Sets are
    sorted by length first, so that a block holds little padding. If the blocks of a training step exceed
    ``AT_ONCE_WITH_GRADIENT`` together, the backward pass computes each a second time: the memory of one is enough.
    """

    def forward(self, images: Features, captions: Features) -> Float[Tensor, "images captions"]:
        """Similarity of every image and every caption; float64 for float64 sets, otherwise float32.

        In mixed precision (``torch.autocast``) the items and their products, nearly all of the work, are in half
        precision; all that follows is in float32.

        Args:
            images: sets of items (images, N, D); padding is ignored.
            captions: sets of items (captions, M, D).

        Raises:
            VSEError: if there is no set, a set is empty or longer than its row, or the items' widths differ.
        """
        _check("image", images)
        _check("caption", captions)
        if images.values.shape[2] != captions.values.shape[2]:
            raise VSEError(
                f"image items {images.values.shape[2]} wide, caption items {captions.values.shape[2]}; "
                "an interaction compares items of the same width"
            )
        trained = torch.is_grad_enabled() and (images.values.requires_grad or captions.values.requires_grad)
        limit = AT_ONCE_WITH_GRADIENT if trained else AT_ONCE
        side = int(limit**0.5)
        kind = _products_in(images.values)
        image_blocks = list(_blocks(images, side, kind))
        widest = max(block.values.shape[:2].numel() for _, block in image_blocks)
        caption_blocks = list(_blocks(captions, limit // widest, kind))
        items = [sum(block.values.shape[:2].numel() for _, block in part) for part in (image_blocks, caption_blocks)]
        again = trained and items[0] * items[1] > limit
        similarity = images.values.new_empty(len(images.lengths), len(captions.lengths), dtype=_exact(kind))
        with torch.autocast(similarity.device.type, enabled=False):
            for rows, some_images in image_blocks:
                for columns, some_captions in caption_blocks:
                    similarity[rows[:, None], columns] = (
                        checkpoint(self.compare, some_images, some_captions, use_reentrant=False)
                        if again
                        else self.compare(some_images, some_captions)
                    )
        return similarity

    def compare(self, images: Block, captions: Block) -> Float[Tensor, "images captions"]:
        """Similarity of every image and every caption of two blocks."""
        raise NotImplementedError


def _check(what: str, sets: Features) -> None:
    if 0 in sets.values.shape:
        raise VSEError(f"{what} sets of shape {tuple(sets.values.shape)}: there is nothing to compare")
    shortest, longest = torch.stack(sets.lengths.aminmax()).tolist()
    if shortest < 1 or longest > sets.values.shape[1]:
        raise VSEError(
            f"{what} sets of {shortest} to {longest} items in rows of {sets.values.shape[1]}; "
            "expected 1 item at least, and no more than a row has"
        )


def _products_in(values: Tensor) -> torch.dtype:
    device = values.device.type
    if torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device):
        return torch.get_autocast_dtype(device)
    return _exact(values.dtype)


def _exact(kind: torch.dtype) -> torch.dtype:
    return torch.float64 if kind == torch.float64 else torch.float32


def _blocks(sets: Features, limit: int, kind: torch.dtype) -> Iterator[tuple[Int[Tensor, " block"], Block]]:
    """Sets of similar length, with at most ``limit`` rows of items together, or one set; and where each set was."""
    lengths, order = sets.lengths.cpu().sort(stable=True)
    sizes, first = lengths.tolist(), 0
    while first < len(sizes):
        end, items = first + 1, sizes[first]
        while end < len(sizes):
            filled, items = (end + 1 - first) * sizes[end], items + sizes[end]
            # sets of another size, which would be padded, join only a small block of nearly their size
            if filled > (limit if sizes[end] == sizes[first] else min(limit // 4, PADDED * items)):
                break
            end += 1
        rows, device = order[first:end], sets.values.device
        values = sets.values[hand_over(rows, device), : sizes[end - 1]]
        values, padding = values.to(kind), None
        if sizes[first] < sizes[end - 1]:
            padding = ~valid_items(lengths[first:end], sizes[end - 1], device)
            values = values.masked_fill(padding[:, :, None], 0.0)
        yield hand_over(rows, device), Block(values, padding)
        first = end


def item_products(rows: Block, columns: Block) -> Float[Tensor, "rows row_items column_items columns"]:
    """Dot products of all items; the columns lie innermost, so that a sum over items runs over many of them at once."""
    these, those = rows.values.flatten(0, 1), columns.values.transpose(0, 1).flatten(0, 1)
    kind = _exact(these.dtype)
    products = full_product(these, those) if these.dtype == kind else (these @ those.T).to(kind)
    return products.view(*rows.values.shape[:2], *columns.values.shape[1::-1])


def hide(scores: Float[Tensor, "..."], padding: Bool[Tensor, "..."] | None, value: float) -> Float[Tensor, "..."]:
    """The scores with ``value`` where there is padding."""
    return scores if padding is None else scores.masked_fill(padding, value)


def chosen(what: str, name: str, known: dict[str, T]) -> T:
    """What a name stands for.

    Raises:
        VSEError: if the name is unknown.
    """
    if name not in known:
        raise VSEError(f"an interaction with {what}={name}, expected one of {', '.join(known)}")
    return known[name]
