"""An answer as HTML: names and captions are escaped; images are embedded, drawn small."""

import base64
import math
from collections.abc import Callable, Sequence
from io import BytesIO
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

import pyarrow.compute as pc
from jaxtyping import Float
from torch import Tensor
from torchvision.transforms.v2.functional import to_pil_image

from vse_gpo.errors import VSEError
from vse_gpo.search.answers import Answer, Query, row_of
from vse_gpo.search.facets import Span
from vse_gpo.search.heat import WHOLE, Box, in_square, painted, shades
from vse_gpo.search.index import Index
from vse_gpo.search.listing import Copies, File
from vse_gpo.search.pictures import open_picture
from vse_gpo.storage.pages import page_templates

SIDE, LARGE = 320, 1600  # pixels of an image on the page, and of one that is viewed
RANKS = 8  # at most as many are written below the pooling's curve
STYLE = Path(__file__).with_name("answer.css").read_text(encoding="utf-8")
FACTS_SHOWN = ["width", "height", "date", "camera", "bytes"]
PAGES = page_templates("vse_gpo.search")


class PageQuery(NamedTuple):
    """A query with what the page shows of it."""

    query: Query | None = None  # None lists images by their dates
    name: str = ""  # of an image
    image: Path | None = None
    where: str | None = None  # condition on the images
    shown: int = 0  # images; 0 for as many as at first


class DrawnImage(NamedTuple):
    """An image inside the page, or the reason why it cannot be shown: it may have been removed since it was indexed."""

    name: str
    data: str = ""  # JPEG in base64
    reason: str = ""
    shape: tuple[int, int] = (1, 1)  # height and width in pixels


class DrawnHit(NamedTuple):
    """A found image to click."""

    row: int
    score: float | None  # None if there was no query
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
    query = asked.query
    said = [f"like {asked.name}"] if asked.image else []
    said += [f"{len(answer.hits):,} of {len(index):,} images in {milliseconds:.0f} ms"]
    said += ["the newest first"] if query is None else []
    said += [f"the first {answer.reranked:,} re-ranked by their items"] if answer.reranked else []
    maps = painted_maps(answer.maps, len(answer.hits))
    hits = []
    for hit, of_hit in zip(answer.hits, maps, strict=True):
        image = draw_hit(index, hit.file)
        place = in_square(kept(*image.shape), *image.shape) if of_hit else WHOLE
        hits.append(DrawnHit(hit.row, None if query is None else hit.score, image, place, of_hit))
    return _render(
        line=" · ".join([*said, *(query.remarks if query else ())]),
        asked=draw_image(asked.image, asked.name) if asked.image else None,
        words=[word.text for word in query.words] if query and answer.maps is not None else [],
        hits=hits,
        misfit=answer.judgement.reason if answer.judgement.fits is False else "",
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
    return _render(line=line, asked=None, words=[], hits=None, misfit="", captions=[])


def _render(**parts: object) -> str:
    return PAGES.get_template("answer.html").render(**parts)


def chart_markup(curve: Sequence[float]) -> str:
    """The coefficients of a pooling against rank; nothing if there are none.

    Args:
        curve: coefficient of each rank.
    """
    if not curve:
        return ""
    low, high = min(0.0, *curve), max(0.0, *curve)
    scale = (high - low) or 1.0
    across = [100 * rank / max(1, len(curve) - 1) for rank in range(len(curve))]
    down = [100 * (high - value) / scale for value in curve]
    ranks = list(enumerate(across, 1))[:: math.ceil(len(curve) / RANKS)]
    return PAGES.get_template("chart.html").render(
        points=list(zip(across, down, strict=True)), zero=100 * high / scale, ranks=ranks, low=low, high=high
    )


def view_markup(index: Index, asked: object, *, shows_path: bool) -> str:
    """One image in large, with what is known of it.

    Args:
        index: of the image.
        asked: row of the image.
        shows_path: whether its whole path is shown, not only its name under the image folder.

    Raises:
        VSEError: if there is no such row.
    """
    row = row_of(index, asked)
    [file] = index.files([row])
    facts = index.table.read(FACTS_SHOWN, rows=[row]).to_pylist()[0]
    image = draw_hit(index, file, side=LARGE)
    path = str(index.path(file)) if shows_path and image.data else file
    return PAGES.get_template("view.html").render(row=row, image=image, path=path, **facts)


class DrawnCopy(NamedTuple):
    """An image of a group of copies."""

    row: int
    image: DrawnImage
    file: File


def copies_markup(index: Index, copies: Copies, most: int) -> str:
    """Groups of copies, the exact ones apart.

    Args:
        index: of the images.
        copies: among them.
        most: images to show; groups that would be cut are left out.
    """
    groups = [*copies.exact, *copies.near]
    counts = list(accumulate(map(len, groups)))
    whole = [group for group, count in zip(groups, counts, strict=True) if count <= most]
    shown = [[draw_copy(index, file) for file in group] for group in whole]
    line = "no two images are copies"
    if groups:
        line = f"{counts[-1]:,} images in {len(groups):,} groups of copies; none is deleted"
    if len(shown) < len(groups):
        line += f" · groups shown: the first {len(shown):,}; vse-duplicates lists all"
    kinds = [("Exact", shown[: len(copies.exact)]), ("Near", shown[len(copies.exact) :])]
    return PAGES.get_template("copies.html").render(line=line, kinds=kinds)


def draw_copy(index: Index, file: File) -> DrawnCopy:
    """An image of a group of copies.

    Args:
        index: of the image.
        file: of the group.
    """
    row = pc.index(index.names, file["file"]).as_py()
    return DrawnCopy(row, draw_hit(index, file["file"]), file)


def timeline_markup(spans: Sequence[Span]) -> str:
    """A bar for each month or year, as high as it has photos; a click chooses it. Nothing if there are none.

    Args:
        spans: in order.
    """
    most = max((span.photos for span in spans), default=1)
    return PAGES.get_template("timeline.html").render(spans=spans, most=most) if spans else ""


def draw_hit(index: Index, file: str, *, side: int = SIDE) -> DrawnImage:
    """An image of the index; a link that now points outside the folder is refused."""
    try:
        return draw_image(index.path(file), file, side=side)
    except VSEError:
        return DrawnImage(file, reason="refused: it leads out of the folder")


def draw_image(path: Path, name: str, *, side: int = SIDE) -> DrawnImage:
    """The image itself, drawn at most so many pixels wide and high."""
    try:
        pixels = open_picture(path, side=side)
    except VSEError as error:
        return DrawnImage(name, reason=str(error).removeprefix(f"{path}: ").partition(";")[0])
    file = BytesIO()
    to_pil_image(pixels).save(file, "JPEG", quality=88)
    return DrawnImage(name, base64.b64encode(file.getvalue()).decode(), shape=(pixels.shape[1], pixels.shape[2]))
