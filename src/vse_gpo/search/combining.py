"""Queries of several parts: texts and images, added and subtracted, with weights."""

import re
from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from vse_gpo.encoder import normalize
from vse_gpo.errors import VSEError

WEIGHTED = re.compile(r"\s*(\d+(?:\.\d+)?)\s*\*\s*(.+)", re.DOTALL)  # 0.5 * people
LEAST = 1e-3  # length of a sum that still has a direction


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


def combine_parts(embeddings: Float[Tensor, "parts dim"], weights: Sequence[float]) -> Float[Tensor, "1 dim"]:
    """The unit sum of weighted unit embeddings (vector arithmetic, Mikolov et al. 2013).

    Args:
        embeddings: of the parts, of unit length.
        weights: of each.

    Raises:
        VSEError: if the parts cancel out, so that the sum has no direction.
    """
    total = torch.tensor(weights, dtype=embeddings.dtype) @ embeddings
    if float(total.norm()) < LEAST * max(map(abs, weights)) or not any(weights):
        raise VSEError("the parts of the query cancel out; change a text, an image or a weight")
    return normalize(total[None])
