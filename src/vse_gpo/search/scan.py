"""Exact search: one matrix product over all embeddings, block by block, on a CPU or a GPU, with the same answers."""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vse_gpo.precision import full_product

MARGIN = 1e-5  # more than a score of unit embeddings in float32 is wrong by
SCORES = 2**25  # of queries and embeddings that are in memory at once
NUMBERS = (
    2**15
)  # of candidates that are scored at once: so few that torch does it in one thread, and waits for no other


class Nearest(NamedTuple):
    """The best rows for a query, and all that tie with the last of them; in no order."""

    scores: Float[Tensor, " rows"]
    rows: Int[Tensor, " rows"]


Block = tuple[Int[Tensor, " rows"], Float[Tensor, "rows dim"]]  # numbers and embeddings of some rows


def nearest(queries: Float[Tensor, "queries dim"], blocks: Iterable[Block], top: int) -> list[Nearest]:
    """The best ``top`` rows for each query.

    The product proposes the rows whose float32 scores are within a margin of the last of the best so far; these are
    scored in float64 and rounded, so that equal embeddings have equal scores wherever they lie, and on any device.

    Args:
        queries: embeddings, on the CPU.
        blocks: all rows; on any device, one block after the other.
        top: rows to find.
    """
    found = [Nearest(torch.empty(0), torch.empty(0, dtype=torch.long)) for _ in queries]
    floor = torch.full((len(queries), 1), -torch.inf)
    for rows, embeddings in blocks:
        asked = queries.to(embeddings.device)
        scores = full_product(asked, embeddings)
        limit = floor.to(scores.device)
        if not limit.isfinite().all() and len(rows) >= top:  # the first block of many rows: of all, few are candidates
            limit = limit.maximum(scores.topk(top).values[:, -1:])
        at, places = (scores >= limit - MARGIN).nonzero(as_tuple=True)
        exact = exact_scores(asked, at, embeddings, places).cpu()
        counts = torch.bincount(at, minlength=len(queries)).tolist()
        for number, (new, near) in enumerate(zip(exact.split(counts), rows[places.cpu()].split(counts), strict=True)):
            if len(new):
                found[number] = best(torch.cat([found[number].scores, new]), torch.cat([found[number].rows, near]), top)
                if len(found[number].rows) >= top:
                    floor[number] = found[number].scores.min()
    return found


def exact_scores(
    queries: Float[Tensor, "queries dim"],
    numbers: Int[Tensor, " pairs"],
    embeddings: Float[Tensor, "rows dim"],
    places: Int[Tensor, " pairs"],
) -> Float[Tensor, " pairs"]:
    """Scores of pairs, summed in float64 and rounded to float32.

    Args:
        queries, embeddings: of unit length.
        numbers, places: query and embedding of each pair.
    """
    pairs = max(1, NUMBERS // queries.shape[1])
    parts = [
        (queries[some].double() * embeddings[others].double()).sum(1).float()
        for some, others in zip(numbers.split(pairs), places.split(pairs), strict=True)
    ]
    return torch.cat(parts) if parts else queries.new_empty(0)


def best(scores: Float[Tensor, " rows"], rows: Int[Tensor, " rows"], top: int) -> Nearest:
    """The best rows, and all that tie with the last of them.

    Args:
        scores, rows: of all candidates.
        top: rows to find.
    """
    if len(rows) > top:
        kept = scores >= scores.topk(top).values[-1]
        scores, rows = scores[kept], rows[kept]
    return Nearest(scores, rows)


def in_blocks(
    embeddings: Float[Tensor, "images dim"], rows: Int[Tensor, " rows"] | None, queries: int
) -> Iterator[Block]:
    """Embeddings that are in memory, or some of them, in blocks for ``nearest``.

    Args:
        embeddings: all.
        rows: those to compare; None takes all.
        queries: number of queries, which their scores are in memory for.
    """
    size = max(1, SCORES // max(1, queries))
    for first in range(0, len(embeddings) if rows is None else len(rows), size):
        if rows is None:
            block = embeddings[first : first + size]
            yield torch.arange(first, first + len(block)), block
        else:
            chosen = rows[first : first + size]
            yield chosen, embeddings[chosen.to(embeddings.device)]


def in_order(found: Nearest, files: Sequence[str], top: int) -> list[tuple[float, int, str]]:
    """Score, row and file of the best, equal scores by the names of the files.

    Args:
        found: candidates.
        files: name of each.
        top: most to give.
    """
    hits = zip(found.scores.tolist(), found.rows.tolist(), files, strict=True)
    return sorted(hits, key=lambda hit: (-hit[0], hit[2]))[:top]
