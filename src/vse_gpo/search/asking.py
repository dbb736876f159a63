"""Queries of an index from the command line: one, as many as are typed, or one a line from another program."""

from collections.abc import Sequence
from functools import cached_property
from typing import Any, NamedTuple

from vse_gpo.model import VSE
from vse_gpo.search.filters import filter_sql
from vse_gpo.search.fitting import NO_IMAGE, Judgement, judge, level_of
from vse_gpo.search.index import Hit, Index
from vse_gpo.search.parts import Part, check_unicode, parts_of, title_of
from vse_gpo.search.queries import encode_parts
from vse_gpo.search.reranking import choose_rerank, find
from vse_gpo.search.telling import Answer, tell_answers


class Reply(NamedTuple):
    """What a query found."""

    title: str
    hits: list[Hit]
    judgement: Judgement
    remarks: list[str]  # the tokeniser's


class Asker:
    """Asks an index with one model.

    Args:
        index: to be searched.
        model: of the index.
    """

    def __init__(self, index: Index, model: VSE) -> None:
        self.index = index
        self.model = model

    @cached_property
    def level(self) -> float | None:
        """See ``level_of``."""
        return level_of(self.index, self.model)

    def ask(self, parts: Sequence[Part], *, top: int, rerank: int = 0, where: str | None = None) -> Reply:
        """The best images of a query, and whether they fit it; of combined queries and images that is not known.

        Args:
            parts: of the query.
            top: images to find.
            rerank: first images of the embedding that the interaction re-orders; see ``choose_rerank``.
            where: condition on the images; see ``filter_sql``.

        Raises:
            VSEError: see ``encode_parts``, ``combine_parts`` and ``Index.hits``.
        """
        query, remarks = encode_parts(self.model, parts)
        hits = find(self.index, self.model, query, top=top, rerank=rerank, where=where)
        judgement = judgement_of_image(hits)
        if len(parts) == 1 and not parts[0].is_image:
            [best] = self.index.hits(query.embeddings, 1, where=where)  # by the embedding
            tokenizer = self.model.prepare_captions.tokenizer
            judgement = judge(parts[0].content, [hit.score for hit in best], self.level, tokenizer)
        return Reply(title_of(parts), hits, judgement, remarks)


def judgement_of_image(hits: Sequence[Hit]) -> Judgement:
    """Whether anything fits a query of images or of several parts: only known if there is nothing at all.

    Args:
        hits: what was found.
    """
    return Judgement(fits=None) if hits else Judgement(fits=False, reason=NO_IMAGE)


def search_index(
    *,
    index: str,
    query: str | None,
    image: str | None,
    plus: str | None,
    plus_image: str | None,
    minus: str | None,
    minus_image: str | None,
    where: str | None,
    after: str | None,
    before: str | None,
    near: str | None,
    camera: str | None,
    folder: str | None,
    top: int,
    rerank: int | str | None,
    nearest: bool,
    json: bool,
    interactive: bool,
    stdin: bool,
    model: str | None,
    tokenizer: str | None,
    vocabulary: str | None,
) -> None:
    """Print the images that fit best.

    Args:
        index: folder of the index.
        query: text to search for.
        image: image file to search for.
        plus, plus_image, minus, minus_image: what is added and subtracted; see ``parts_of``.
        where, after, before, near, camera, folder: conditions on the images; see ``filter_sql``.
        top: images to show.
        rerank: first images of the embedding that the model's interaction re-orders; see ``choose_rerank``.
        nearest: print the nearest images where nothing fits, too.
        json: print only JSON.
        interactive: ask for queries, one after the other.
        stdin: read queries from the standard input, one a line, and print a line of JSON for each.
        model, tokenizer, vocabulary: where the index's model is now; see ``Index.open_model``.

    Raises:
        VSEError: if a query is not UTF-8, the index or its model is not there, an image or a condition cannot be read,
            or images cannot be re-ordered; or if a line of the standard input could not be answered.
    """
    condition = filter_sql(where=where, after=after, before=before, near=near, camera=camera, folder=folder)
    parts = parts_of(query, image, plus=plus, plus_image=plus_image, minus=minus, minus_image=minus_image)
    for part in parts:
        check_unicode(part.content)
    opened = Index.load(index)
    encoders = opened.open_model(model, tokenizer=tokenizer, vocabulary=vocabulary)
    first = choose_rerank(rerank, opened, encoders, top=top)
    asker = Asker(opened, encoders)

    def ask(parts: Sequence[Part]) -> Answer:
        return answer_of(asker.ask(parts, top=top, rerank=first, where=condition))

    tell_answers(ask, parts, interactive=interactive, stdin=stdin, nearest=nearest, as_json=json)


def answer_of(found: Reply) -> dict[str, Any]:
    """What a query found, as an answer; see ``vse_gpo.search.telling``."""
    hits = [{"rank": rank, "score": hit.score, "file": hit.file} for rank, hit in enumerate(found.hits, 1)]
    return {
        "query": found.title,
        "fits": found.judgement.fits,
        "reason": found.judgement.reason,
        "hits": hits,
        "remarks": found.remarks,
    }
