"""Captions in text files: tables with a header, and Flickr's token files.

Python's ``csv`` reads the tables. pyarrow's reader was tried and reads over an open quote without a word, so that the
rows after it become part of a caption.
"""

import csv
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vse_gpo.data.caption_lists import Described, Found, SourcePart
from vse_gpo.data.sources.columns import Wanted, described_records, find_columns, guess_columns
from vse_gpo.errors import VSEError

DELIMITERS = {",": "commas", "\t": "tabs", "|": "bars", ";": "semicolons"}
QUOTED = ",;"  # delimiters that stand inside quotes, too
TOKEN = re.compile(r"(?P<file>[^\t]+)#\d+\t(?P<caption>.*)")  # Flickr's files: name#number TAB caption


def read_token(text: str, path: Path) -> SourcePart:
    """Flickr's ``.token`` files.

    Raises:
        VSEError: while its captions are read, if a line has another form.
    """

    def found() -> Found:
        for number, line in enumerate(text.removesuffix("\n").split("\n"), 1):
            row = TOKEN.fullmatch(line)
            if row is None:
                raise VSEError(f"{path}: line {number} is not IMAGE#NUMBER, a tab and a caption as the lines before")
            file = row["file"].strip()
            yield f"line {number}", Described("", file, file, row["caption"])

    return SourcePart(found(), "IMAGE#NUMBER, a tab and a caption on each line")


def read_table(text: str, path: Path, wanted: Wanted, notes: list[str]) -> SourcePart:
    """A table with a header; commas and semicolons may stand inside quotes.

    Args:
        text: of the file, with newlines as line ends.
        path: of the file, for messages.
        wanted: names of the columns.
        notes: takes the rows that are left out.

    Raises:
        VSEError: if a column is missing; while its captions are read, if a row has too many columns or an open quote.
    """
    delimiter = _delimiter(text, wanted)
    reader = csv.reader(
        io.StringIO(text, newline="\n"),
        delimiter=delimiter,
        quoting=csv.QUOTE_MINIMAL if delimiter in QUOTED else csv.QUOTE_NONE,
        strict=True,
    )
    names = _next_row(reader, path) or [""]
    columns = find_columns(names, wanted, path)

    def rows() -> Iterator[tuple[str, dict[str, str]]]:
        while (row := _next_row(reader, path)) is not None:
            if len(row) > len(names):
                raise VSEError(
                    f"{path}: line {reader.line_num} has {len(row)} columns, expected {len(names)}; put captions with "
                    f"{delimiter!r} in quotes"
                )
            if len(row) == len(names):
                yield f"line {reader.line_num}", dict(zip(names, row, strict=True))
            elif row:
                notes.append(f"line {reader.line_num}: {len(row)} of {len(names)} columns, left out")

    return SourcePart(
        described_records(rows(), columns, notes), f"a table with {DELIMITERS[delimiter]} between columns: {columns}"
    )


def _next_row(reader: Any, path: Path) -> list[str] | None:
    try:
        return next(reader, None)
    except csv.Error as error:
        raise VSEError(f"{path}: line {reader.line_num}: {error}; is a quote open?") from error


def _delimiter(text: str, wanted: Wanted) -> str:
    """The one whose columns have an image and a caption; else that with the most columns, to name them."""
    line = text.split("\n", 1)[0]
    fits = (mark for mark in DELIMITERS if {"image", "caption"} <= guess_columns(line.split(mark), wanted).keys())
    return next(fits, max(DELIMITERS, key=line.count))
