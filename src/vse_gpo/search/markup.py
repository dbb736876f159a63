"""An answer as HTML: names and captions are escaped; images are embedded, drawn small."""

import base64
from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor
from torchvision.transforms.v2.functional import to_pil_image

from vse_gpo.errors import VSEError
from vse_gpo.search.answers import Answer, Query
from vse_gpo.search.heat import WHOLE, Box, in_square, painted, shades
from vse_gpo.search.index import Index
from vse_gpo.search.pictures import open_picture
from vse_gpo.storage.pages import page_templates

SIDE = 320  # pixels of an image on the page
STYLE = Path(__file__).with_name("answer.css").read_text(encoding="utf-8")
PAGES = page_templates("vse_gpo.search")


class PageQuery(NamedTuple):
    """A query with what the page shows of it."""

    query: Query
    name: str = ""  # of an image
    image: Path | None = None


class DrawnImage(NamedTuple):
    """An image inside the page, or the reason why it cannot be shown: it may have been removed since it was indexed."""

    name: str
    data: str = ""  # JPEG in base64
    reason: str = ""
    shape: tuple[int, int] = (1, 1)  # height and width in pixels


class DrawnHit(NamedTuple):
    """A found image to click."""

    row: int
    score: float
    image: DrawnImage
    place: Box  # of its maps, in the square that it is shown in
    maps: Sequence[str]  # PNG in base64 of each word's


def answer_markup(
    index: Index, asked: PageQuery, answer: Answer, milliseconds: float, *, kept: Callable[[int, int], Box]
) -> str:
    """The results, below a line about the query.

    Args:
        index: that was searched.
        asked: the query.
        answer: what was found.
        milliseconds: that it took.
        kept: height and width of an image → the part that the model sees, where the maps of words lie.
    """
    said = [f"like {asked.name}"] if asked.image else []
    said += [f"{len(answer.hits):,} of {len(index):,} images in {milliseconds:.0f} ms"]
    said += [f"the first {answer.reranked:,} re-ranked by their items"] if answer.reranked else []
    maps = painted_maps(answer.maps, len(answer.hits))
    hits = []
    for hit, of_hit in zip(answer.hits, maps, strict=True):
        image = draw_hit(index, hit.file)
        place = in_square(kept(*image.shape), *image.shape) if of_hit else WHOLE
        hits.append(DrawnHit(hit.row, hit.score, image, place, of_hit))
    return _render(
        line=" · ".join([*said, *asked.query.remarks]),
        asked=draw_image(asked.image, asked.name) if asked.image else None,
        words=[word.text for word in asked.query.words] if answer.maps is not None else [],
        hits=hits,
        captions=answer.captions,
    )


def painted_maps(maps: Float[Tensor, "words hits side side"] | None, hits: int) -> list[tuple[str, ...]]:
    """PNG in base64 of each word, for each hit; the maps of a word share one scale, so that hits can be compared."""
    if maps is None:
        return [()] * hits
    by_word = [[base64.b64encode(painted(shade)).decode() for shade in shades(of_word)] for of_word in maps]
    return list(zip(*by_word, strict=True))


def line_markup(line: str) -> str:
    """A line of text, for example an error."""
    return _render(line=line, asked=None, words=[], hits=None, captions=[])


def _render(**parts: object) -> str:
    return PAGES.get_template("answer.html").render(**parts)


def draw_hit(index: Index, file: str) -> DrawnImage:
    """An image of the index; a link that now points outside the folder is refused."""
    try:
        return draw_image(index.path(file), file)
    except VSEError:
        return DrawnImage(file, reason="refused: it leads out of the folder")


def draw_image(path: Path, name: str) -> DrawnImage:
    """The image itself, drawn small."""
    try:
        pixels = open_picture(path, side=SIDE)
    except VSEError as error:
        return DrawnImage(name, reason=str(error).removeprefix(f"{path}: ").partition(";")[0])
    file = BytesIO()
    to_pil_image(pixels).save(file, "JPEG", quality=88)
    return DrawnImage(name, base64.b64encode(file.getvalue()).decode(), shape=(pixels.shape[1], pixels.shape[2]))
