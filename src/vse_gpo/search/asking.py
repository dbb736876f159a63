"""One query of an index from the command line."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from rich import get_console
from rich.table import Table
from rich.text import Text

from vse_gpo.batch import EncoderOutput
from vse_gpo.errors import printable
from vse_gpo.model import VSE
from vse_gpo.search.index import Hit, Index
from vse_gpo.search.queries import check_unicode, encode_picture, encode_text
from vse_gpo.search.reranking import choose_rerank, find


def search_index(
    *,
    index: str,
    query: str | None,
    image: str | None,
    top: int,
    rerank: int | str | None,
    json: bool,
    model: str | None,
    tokenizer: str | None,
    vocabulary: str | None,
) -> None:
    """Print the images that fit best.

    Args:
        index: folder of the index.
        query: text to search for.
        image: image file to search for instead.
        top: images to show.
        rerank: first images of the embedding that the model's interaction re-orders; see ``choose_rerank``.
        json: print only JSON.
        model, tokenizer, vocabulary: where the index's model is now; see ``Index.open_model``.

    Raises:
        VSEError: if the query is not UTF-8, the index or its model is not there, or the image cannot be read; or if
            images cannot be re-ordered.
    """
    check_unicode(query or "")
    found = Index.load(index)
    encoders = found.open_model(model, tokenizer=tokenizer, vocabulary=vocabulary)
    first = choose_rerank(rerank, found, encoders, top=top)
    hits = find(found, encoders, encode_query(encoders, query, image), top=top, rerank=first)
    if json:
        print_json(hits)
    else:
        print_table(query or f"like {image}", hits)


def encode_query(model: VSE, query: str | None, image: str | None) -> EncoderOutput:
    """What the model compares of the query; prints a warning line if the tokeniser cuts the text."""
    if image is not None:
        return encode_picture(model, Path(image).expanduser())
    encoded, remarks = encode_text(model, query or "")
    for remark in remarks:
        sys.stderr.write(f"warning: {remark}\n")
    return encoded


def print_json(hits: Sequence[Hit]) -> None:
    """Print rank, score and file of every found image as one line."""
    ranked = enumerate(hits, 1)
    print(json.dumps([{"rank": rank, "score": hit.score, "file": hit.file} for rank, hit in ranked]))


def print_table(title: str, hits: Sequence[Hit]) -> None:
    """Print rank, score and file of every found image."""
    table = Table(title=Text(printable(title)), title_justify="left")
    table.add_column("rank", justify="right")
    table.add_column("score", justify="right")
    table.add_column("file", overflow="fold")
    for rank, hit in enumerate(hits, 1):
        table.add_row(str(rank), f"{hit.score:.3f}", Text(printable(hit.file)))
    get_console().print(table)
