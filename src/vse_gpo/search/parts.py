"""The parts of a query: texts and images, added and subtracted, with weights."""

import re
from collections.abc import Sequence
from typing import NamedTuple

from vse_gpo.errors import VSEError

WEIGHTED = re.compile(r"\s*(\d+(?:\.\d+)?)\s*\*\s*(.+)", re.DOTALL)  # 0.5 * people
IMAGE = "image="  # begins a line that names an image file


class Part(NamedTuple):
    """A text or an image file of a query."""

    content: str  # the text, or the path of the file
    weight: float = 1.0  # below zero, if it is subtracted
    is_image: bool = False


def parts_of(
    query: str | None = None,
    image: str | None = None,
    *,
    plus: str | None = None,
    plus_image: str | None = None,
    minus: str | None = None,
    minus_image: str | None = None,
) -> list[Part]:
    """The parts of a query; empty ones are left out.

    Args:
        query: a text, taken as it stands.
        image: an image file, taken as it stands.
        plus, minus: further texts that are added and subtracted, several with ``;`` between them; ``0.5 *`` before one
            is its weight.
        plus_image, minus_image: image files, in the same way.
    """
    parts = [Part(query)] if (query or "").strip() and query is not None else []
    parts += [Part(image, is_image=True)] if image is not None else []
    for sign, texts, files in ((1.0, plus, plus_image), (-1.0, minus, minus_image)):
        for given, is_image in ((texts, False), (files, True)):
            for one in (given or "").split(";"):
                found = WEIGHTED.fullmatch(one)
                content = (found[2] if found else one).strip()
                if content:
                    parts.append(Part(content, sign * float(found[1] if found else 1), is_image))
    return parts


def title_of(parts: Sequence[Part]) -> str:
    """A query in words.

    Args:
        parts: of it.
    """
    words: list[str] = []
    for part in parts:
        weight = "" if abs(part.weight) == 1 else f"{abs(part.weight):g} * "
        sign = "- " if part.weight < 0 else "+ " if words else ""
        words.append(f"{sign}{weight}{'like ' if part.is_image else ''}{part.content}")
    return " ".join(words)


def parts_of_line(line: str) -> list[Part]:
    """The parts of a query that was typed on a line of its own: a text, or ``image=FILE``."""
    line = line.strip()
    return parts_of(image=line.removeprefix(IMAGE)) if line.startswith(IMAGE) else parts_of(line)


def check_unicode(text: str) -> None:
    """Refuse a text that no tokeniser can read.

    Raises:
        VSEError: if it is not UTF-8.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        raise VSEError("the query is not UTF-8; type it in a terminal that is") from None
