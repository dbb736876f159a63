"""An answer as HTML: names and captions are escaped; images are embedded, drawn small."""

import base64
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

from torchvision.transforms.v2.functional import to_pil_image

from vse_gpo.errors import VSEError
from vse_gpo.search.answers import Answer, Query
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


class DrawnHit(NamedTuple):
    """A found image to click."""

    row: int
    score: float
    image: DrawnImage


def answer_markup(index: Index, asked: PageQuery, answer: Answer, milliseconds: float) -> str:
    """The results, below a line about the query."""
    said = [f"like {asked.name}"] if asked.image else []
    said += [f"{len(answer.hits):,} of {len(index):,} images in {milliseconds:.0f} ms", *asked.query.remarks]
    return _render(
        line=" · ".join(said),
        asked=draw_image(asked.image, asked.name) if asked.image else None,
        hits=[DrawnHit(hit.row, hit.score, draw_hit(index, hit.file)) for hit in answer.hits],
        captions=answer.captions,
    )


def line_markup(line: str) -> str:
    """A line of text, for example an error."""
    return _render(line=line, asked=None, hits=None, captions=[])


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
    return DrawnImage(name, base64.b64encode(file.getvalue()).decode())
