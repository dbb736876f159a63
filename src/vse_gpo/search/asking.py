"""One query of an index from the command line."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from rich import get_console
from rich.table import Table
from rich.text import Text
from torch import Tensor

from vse_gpo.errors import printable
from vse_gpo.model import VSE
from vse_gpo.search.index import Index
from vse_gpo.search.pictures import open_picture
from vse_gpo.search.texts import check_unicode, embed_text


def search_index(
    *,
    index: str,
    query: str | None,
    image: str | None,
    top: int,
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
        json: print only JSON.
        model, tokenizer, vocabulary: where the index's model is now; see ``Index.open_model``.

    Raises:
        VSEError: if the query is not UTF-8, the index or its model is not there, or the image cannot be read.
    """
    check_unicode(query or "")
    found = Index.load(index)
    encoders = found.open_model(model, tokenizer=tokenizer, vocabulary=vocabulary)
    [scores], [files] = found.search(embed_query(encoders, query, image), top)
    if json:
        print_json(scores, files)
    else:
        print_table(query or f"like {image}", scores, files)


def embed_query(model: VSE, query: str | None, image: str | None) -> Tensor:
    """Unit embedding (1, E) of the query; prints a warning line if the tokeniser cuts the text."""
    if image is not None:
        return model.encode_images([open_picture(Path(image).expanduser())])
    embedding, remarks = embed_text(model, query or "")
    for remark in remarks:
        sys.stderr.write(f"warning: {remark}\n")
    return embedding


def print_json(scores: Sequence[float], files: Sequence[str]) -> None:
    """Print rank, score and file of every found image as one line."""
    hits = enumerate(zip(scores, files, strict=True), 1)
    print(json.dumps([{"rank": rank, "score": score, "file": file} for rank, (score, file) in hits]))


def print_table(title: str, scores: Sequence[float], files: Sequence[str]) -> None:
    """Print rank, score and file of every found image."""
    table = Table(title=Text(printable(title)), title_justify="left")
    table.add_column("rank", justify="right")
    table.add_column("score", justify="right")
    table.add_column("file", overflow="fold")
    for rank, (score, file) in enumerate(zip(scores, files, strict=True), 1):
        table.add_row(str(rank), f"{score:.3f}", Text(printable(file)))
    get_console().print(table)
