"""An answer as HTML: names and captions are text there, whatever they hold; pictures are part of it, drawn small."""

import base64
from collections.abc import Sequence
from html import escape
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

from torchvision.transforms.v2.functional import to_pil_image

from vse_gpo.errors import VSEError
from vse_gpo.search.answers import Answer, Hit, Query
from vse_gpo.search.index import Index, printable
from vse_gpo.search.pictures import open_picture

SIDE = 320  # of a picture on the page, in pixels

STYLE = """
.vse ol {list-style: none; margin: 0; padding: 0}
.vse .pictures {display: grid; grid-template-columns: repeat(auto-fill, minmax(min(150px, 42%), 1fr)); gap: 14px}
.vse .pictures li {min-width: 0}
.vse button {display: block; width: 100%; aspect-ratio: 1; padding: 0; border-radius: 8px; overflow: hidden;
  border: 1px solid var(--border-color-primary); background: var(--background-fill-secondary); cursor: pointer;
  color: var(--body-text-color-subdued); font-size: 12px; overflow-wrap: anywhere}
.vse button:hover, .vse button:focus-visible {outline: 2px solid var(--color-accent)}
.vse img {width: 100%; height: 100%; object-fit: contain; margin: 0}
.vse .asked {display: flex; align-items: center; gap: 12px; min-height: 28px; margin: 0 0 10px; overflow-wrap: anywhere}
.vse .asked img {width: 72px; height: 72px; border-radius: 8px; flex: none}
.vse .bar {height: 5px; border-radius: 3px; margin: 6px 0 3px; background: var(--border-color-primary)}
.vse .bar span {display: block; height: 100%; border-radius: 3px; background: var(--color-accent)}
.vse .about {display: flex; gap: 8px; margin: 0; font-size: 13px; color: var(--body-text-color-subdued);
  font-variant-numeric: tabular-nums}
.vse .about b {color: var(--body-text-color)}
.vse .file {overflow: hidden; text-overflow: ellipsis; white-space: nowrap}
.vse h3 {margin: 18px 0 8px; font-size: 15px}
.vse .captions li {display: grid; grid-template-columns: 3.2em 5em 1fr; gap: 10px; align-items: center;
  margin-bottom: 4px; overflow-wrap: anywhere; font-variant-numeric: tabular-nums}
.vse .captions .bar {margin: 0}
"""


class Asked(NamedTuple):
    """A query as the page names it."""

    query: Query
    name: str = ""  # of a picture
    picture: Path | None = None


def answer_markup(index: Index, asked: Asked, answer: Answer, milliseconds: float) -> str:
    """What is found, below a line on the query."""
    said = [f"like {printable(asked.name)}"] if asked.picture else []
    said += [f"{len(answer.hits):,} of {len(index):,} pictures in {milliseconds:.0f} ms", *asked.query.remarks]
    picture = picture_markup(asked.picture, asked.name) if asked.picture else ""
    cards = "".join(hit_markup(index, hit, rank) for rank, hit in enumerate(answer.hits, 1))
    return (
        line_markup(" · ".join(said), picture) + f'<ol class="pictures">{cards}</ol>' + captions_markup(answer.captions)
    )


def line_markup(line: str, picture: str = "") -> str:
    """A line of text, an error for one."""
    return f'<div class="asked" role="status">{picture}<span>{escape(line)}</span></div>'


def hit_markup(index: Index, hit: Hit, rank: int) -> str:
    """A picture to click, with its rank, score and file."""
    name = escape(printable(hit.file))
    try:
        picture = picture_markup(index.path(hit.file), hit.file)
    except VSEError:  # a link that leads out of the folder by now
        picture = "refused: it leads out of the folder"
    return (
        f'<li><button type="button" data-row="{hit.row}" title="find similar pictures">{picture}</button>'
        f'{bar_markup(hit.score)}<p class="about"><b>{rank}</b> <span>{hit.score:.3f}</span> '
        f'<span class="file" title="{name}">{name}</span></p></li>'
    )


def captions_markup(captions: Sequence[tuple[str, float]]) -> str:
    """Captions with their scores."""
    if not captions:
        return ""
    lines = "".join(
        f"<li><span>{score:.3f}</span>{bar_markup(score)}<span>{escape(caption)}</span></li>"
        for caption, score in captions
    )
    return f'<h3>Captions that fit</h3><ol class="captions">{lines}</ol>'


def bar_markup(score: float) -> str:
    """A score between 0 and 1 as a bar; a negative one is none."""
    return f'<div class="bar"><span style="width: {100 * min(max(score, 0.0), 1.0):.1f}%"></span></div>'


def picture_markup(path: Path, name: str) -> str:
    """The picture itself, drawn small; the reason where it cannot be read, for it may be lost since it was indexed."""
    try:
        pixels = open_picture(path, side=SIDE)
    except VSEError as error:
        return escape(printable(str(error).removeprefix(f"{path}: ").partition(";")[0]))
    file = BytesIO()
    to_pil_image(pixels).save(file, "JPEG", quality=88)
    data = base64.b64encode(file.getvalue()).decode()
    return f'<img src="data:image/jpeg;base64,{data}" alt="{escape(printable(name))}">'
