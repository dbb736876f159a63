"""The second stage of a search: the first images of the embedding, in the order of the model's interaction."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from vse_gpo.batch import EncoderOutput, Features
from vse_gpo.errors import VSEError
from vse_gpo.interaction import Interaction
from vse_gpo.model import VSE
from vse_gpo.search.index import MAKE_ITEMS, Hit, Index
from vse_gpo.search.items import AUTO

FIRST = 100  # images that ``auto`` re-orders
BLOCK = 256  # images whose items are in memory as floats


def choose_rerank(rerank: int | str | None, index: Index, model: VSE, *, top: int) -> int:
    """How many of the first images are re-ordered; 0 if none are.

    Args:
        rerank: their number; ``auto`` takes 100, or all, if the index has sets of items; None takes none.
        index: to be searched.
        model: of the index.
        top: images to show.

    Raises:
        VSEError: if the model compares no items, the index has none or fewer images, or more images are shown.
    """
    if rerank == AUTO:
        return 0 if not index.has_items or model.interaction is None else min(FIRST, len(index))
    if rerank is None:
        return 0
    if model.interaction is None:
        raise VSEError(
            f"rerank={rerank}: the model has no interaction, by which images could be re-ordered; leave it out, or "
            "train a model with interaction=maxsim or another"
        )
    if not index.has_items:
        raise VSEError(f"rerank={rerank}: the index has no sets of items; {MAKE_ITEMS}")
    if not isinstance(rerank, int) or rerank > len(index):
        raise VSEError(f"rerank={rerank}, but the index holds {len(index):,} images; set it to {len(index):,} at most")
    if rerank < min(top, len(index)):
        raise VSEError(f"rerank={rerank}, but top={top} images are shown; expected as many at least")
    return rerank


def find(
    index: Index,
    model: VSE,
    query: EncoderOutput,
    *,
    top: int,
    rerank: int = 0,
    without: int | None = None,
    where: str | None = None,
) -> list[Hit]:
    """The best images for a query.

    Args:
        index: to be searched.
        model: of the index.
        query: one text or image.
        top: images to find.
        rerank: the first images of the embedding that the interaction re-orders, at least ``top``; 0 for none.
        without: row of an image that is left out.
        where: condition on the images; see ``Index.hits``.
    """
    wanted = max(top, rerank)
    [hits] = index.hits(query.embeddings, wanted + (without is not None), where=where)
    hits = [hit for hit in hits if hit.row != without][:wanted]
    if rerank and hits and model.interaction is not None and query.items is not None:
        scores = compare_items(index, model.interaction, query.items, [hit.row for hit in hits])
        hits = ordered_by(hits, scores)
    return hits[:top]


@torch.inference_mode()
def compare_items(
    index: Index, interaction: Interaction, query: Features, rows: Sequence[int]
) -> Float[Tensor, " images"]:
    """Similarity of a query and some images of an index by their items, read and compared block by block.

    Args:
        index: with sets of items.
        interaction: compares them.
        query: the only set of a text; or that of an image, which takes the text's place.
        rows: of the images.
    """
    scores = []
    for first in range(0, len(rows), BLOCK):
        values, lengths = index.item_sets(rows[first : first + BLOCK]).features()
        scores.append(interaction(Features(values.to(query.values.device), lengths), query)[:, 0].cpu())
    return torch.cat(scores)


def ordered_by(hits: Sequence[Hit], scores: Float[Tensor, " images"]) -> list[Hit]:
    """The same images with other scores, best first; equal ones keep their order.

    Args:
        hits: images.
        scores: of each.
    """
    order = scores.argsort(descending=True, stable=True)
    return [hits[place]._replace(score=float(scores[place])) for place in order.tolist()]
