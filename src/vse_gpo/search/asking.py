"""Queries of an index from the command line: one, as many as are typed, or one a line from another program."""

import json
import sys
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any, NamedTuple

from rich import get_console
from rich.table import Table
from rich.text import Text

from vse_gpo.errors import VSEError, printable
from vse_gpo.model import VSE
from vse_gpo.search.combining import Part, parts_of, title_of
from vse_gpo.search.filters import filter_sql
from vse_gpo.search.fitting import Judgement, judge, level_of
from vse_gpo.search.index import Hit, Index
from vse_gpo.search.prompt import Prompt
from vse_gpo.search.queries import check_unicode, encode_parts
from vse_gpo.search.reranking import choose_rerank, find

IMAGE = "image="  # begins a line that names an image file


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
        top: images to find.
        rerank: see ``choose_rerank``.
        where: condition on the images; see ``filter_sql``.

    Raises:
        VSEError: if images cannot be re-ordered.
    """

    def __init__(
        self, index: Index, model: VSE, *, top: int, rerank: int | str | None = None, where: str | None = None
    ) -> None:
        self.index = index
        self.model = model
        self.top = top
        self.rerank = choose_rerank(rerank, index, model, top=top)
        self.where = where

    @cached_property
    def level(self) -> float | None:
        """See ``level_of``."""
        return level_of(self.index, self.model)

    def ask(self, parts: Sequence[Part]) -> Reply:
        """The best images of a query, and whether they fit it; of combined queries and images that is not known.

        Args:
            parts: of the query.

        Raises:
            VSEError: see ``encode_parts``, ``combine_parts`` and ``Index.hits``.
        """
        query, remarks = encode_parts(self.model, parts)
        hits = find(self.index, self.model, query, top=self.top, rerank=self.rerank, where=self.where)
        judgement = Judgement(fits=None)
        if not hits or (len(parts) == 1 and not parts[0].is_image):
            [best] = self.index.hits(query.embeddings, 1, where=self.where)  # by the embedding
            tokenizer = self.model.prepare_captions.tokenizer
            judgement = judge(parts[0].content, [hit.score for hit in best], self.level, tokenizer)
        return Reply(title_of(parts), hits, judgement, remarks)


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
    asker = Asker(opened, encoders, top=top, rerank=rerank, where=condition)
    if stdin:
        answer_lines(asker, sys.stdin)
    elif interactive:
        Prompt(lambda line: _tell(asker.ask(parts_of_line(line)), nearest=nearest, as_json=json)).cmdloop()
    else:
        _tell(asker.ask(parts), nearest=nearest, as_json=json)


def parts_of_line(line: str) -> list[Part]:
    """The parts of a query that was typed on a line of its own: a text, or ``image=FILE``."""
    line = line.strip()
    return parts_of(image=line.removeprefix(IMAGE)) if line.startswith(IMAGE) else parts_of(line)


def answer_lines(asker: Asker, lines: Iterable[str]) -> None:
    """Print a line of JSON for every line, at once; a line that cannot be answered gets an error instead.

    Args:
        asker: answers.
        lines: see ``parts_of_line``; empty ones are left out.

    Raises:
        VSEError: after the last line, if one could not be answered.
    """
    count = failed = 0
    for line in lines:
        if not line.strip():
            continue
        count += 1
        try:
            answer = answer_of(asker.ask(parts_of_line(line)))
        except VSEError as error:
            failed += 1
            answer = {"query": printable(line.strip()), "error": str(error)}
        print(json.dumps(answer), flush=True)
    if failed:
        raise VSEError(f"{failed} of {count} queries could not be answered; see the errors among the answers")


def answer_of(found: Reply) -> dict[str, Any]:
    """What a query found, for JSON; ``fits`` is null if it is not known."""
    hits = [{"rank": rank, "score": hit.score, "file": hit.file} for rank, hit in enumerate(found.hits, 1)]
    return {"query": found.title, "fits": found.judgement.fits, "reason": found.judgement.reason, "hits": hits}


def _tell(found: Reply, *, nearest: bool, as_json: bool) -> None:
    for remark in found.remarks:
        sys.stderr.write(f"warning: {remark}\n")
    if as_json:
        print(json.dumps(answer_of(found)))
    elif found.judgement.fits is False and not (nearest and found.hits):
        hint = "; nearest=true shows the nearest images" if found.hits else ""
        print(f"nothing fits: {printable(found.judgement.reason)}{hint}")
    else:
        if found.judgement.fits is False:
            print(f"nothing fits: {printable(found.judgement.reason)}; the nearest images are:")
        print_table(found.title, found.hits)


def print_table(title: str, hits: Sequence[Hit]) -> None:
    """Print rank, score and file of every found image.

    Args:
        title: stands above, as wide as the terminal.
        hits: in order.
    """
    table = Table()
    table.add_column("rank", justify="right")
    table.add_column("score", justify="right")
    table.add_column("file", overflow="fold")
    for rank, hit in enumerate(hits, 1):
        table.add_row(str(rank), f"{hit.score:.3f}", Text(printable(hit.file)))
    get_console().print(Text(printable(title), style="italic"), table, sep="\n")
