"""Evaluate a model in two stages: its embedding ranks the gallery, its interaction re-orders what comes first."""

import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from vse_gpo.errors import VSEError
from vse_gpo.evaluation.results import Result
from vse_gpo.model import EMBEDDING, VSE
from vse_gpo.retrieval.embeddings import Encoded
from vse_gpo.retrieval.hubness import Correction
from vse_gpo.retrieval.protocols import PLUS
from vse_gpo.retrieval.reranking import Rerank, Rescore, check_first, keep
from vse_gpo.retrieval.similarity import Similarity

TIMED = 50  # queries


def stages(rerank: Rerank) -> dict[str, Correction]:
    """Name after a protocol's ``+`` → what ranks: the embedding by itself, and with the first items re-ordered.

    Args:
        rerank: re-orders them.
    """
    return {EMBEDDING: keep, str(rerank): rerank}


def staged(protocols: Sequence[str], rerank: Rerank) -> list[str]:
    """Every protocol by each stage."""
    return [f"{protocol}{PLUS}{stage}" for protocol in protocols for stage in stages(rerank)]


def second_stage(
    first: int | str | None, embedding: float, *, sources: int, embeddings: Sequence[str], bank: Sequence[str]
) -> Rerank | None:
    """What re-orders the first items, None if nothing does; refuses what cannot be ranked in two stages.

    Args:
        first: items that are re-ordered; None ranks in one stage.
        embedding: weight of the first stage's similarity in the new order.
        sources: number of models and files.
        embeddings: files of embeddings.
        bank: banks of corrections.

    Raises:
        VSEError: if it is no number, or there are several models, embeddings of a file, or a bank.
    """
    if first is None:
        if embedding:
            raise VSEError(f"rerank_embedding={embedding:g} without rerank, whose order it changes; add rerank=50")
        return None
    if isinstance(first, str):
        raise VSEError(f"rerank={first}, expected a number of items, which the results are named after")
    if embeddings or sources != 1:
        raise VSEError(f"rerank={first} with {sources} sources, expected one checkpoint, whose interaction re-orders")
    if bank:
        raise VSEError(f"rerank={first} with bank={bank[0]}: hubness is corrected for embeddings only; leave one out")
    return Rerank(first, embedding)


def check_model(name: str, model: VSE, *, first: int | None, images: int, of_embeddings: Sequence[str]) -> None:
    """Refuse what a model cannot do, before it encodes anything.

    Args:
        name: of the model.
        model: with an interaction or without.
        first: items that are re-ordered; None re-orders nothing.
        images: number of images in the gallery.
        of_embeddings: settings in use that make sense only where embeddings rank.

    Raises:
        VSEError: if the model has no interaction and one is asked for, or the other way round; or if more items are
            re-ordered than there are images.
    """
    if first is not None and model.interaction is None:
        raise VSEError(f"rerank={first}: {name} has no interaction; leave it out, or train with interaction=maxsim")
    if first is not None:
        check_first(first, images)
    if of_embeddings and model.interaction is not None:
        raise VSEError(f"{of_embeddings[0]}: {name} ranks by its interaction, not by embeddings; leave it out")


def milliseconds(similarity: Similarity, rescore: Rescore, first: int) -> float:
    """Median time to re-order what one query finds, its embedding given: for the queries one by one.

    Args:
        similarity: queries × gallery, by embeddings.
        rescore: gives the interaction of a query and some items.
        first: items that are re-ordered.
    """
    taken = []
    for query in range(min(TIMED, similarity.shape[0])):
        start = time.perf_counter()
        values = similarity.tile(slice(query, query + 1), slice(0, similarity.shape[1]))
        rescore(query, values[0].topk(min(first, similarity.shape[1])).indices).argsort().tolist()
        taken.append(1000 * (time.perf_counter() - start))
    return float(np.median(taken))


def with_times(results: Sequence[Result], test: Encoded, rerank: Rerank) -> tuple[list[Result], dict[str, float]]:
    """Results of both stages with the time per query, and these times in milliseconds.

    Args:
        results: of one model.
        test: its test set, with item sets beside it.
        rerank: re-orders the first items.

    Raises:
        VSEError: if there are no item sets.
    """
    if test.bank is None:
        raise VSEError("the test set has no item sets to re-order by")
    similarity = test.similarities.image_caption
    times = {
        f"{direction}_ms": milliseconds(asked, test.bank.searched(direction), rerank.first)
        for direction, asked in (("i2t", similarity), ("t2i", similarity.transpose()))
    }
    found = [
        replace(result, outcome=replace(result.outcome, others={**result.outcome.others, **times}))
        if result.protocol.endswith(f"{PLUS}{rerank}")
        else result
        for result in results
    ]
    return found, times
