"""The best and the worst queries of a run, with images and captions, found by encoding its test split again."""

import base64
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from vse_gpo.data.split import ImageSource, Split
from vse_gpo.evaluation.encoding import encode_split, open_data
from vse_gpo.figures.examples import drawable_images
from vse_gpo.model import VSE
from vse_gpo.reporting.runs import Scores, Searched
from vse_gpo.retrieval.protocols import Gallery, run_protocols
from vse_gpo.retrieval.recalls import Outcome
from vse_gpo.retrieval.similarity import Similarity
from vse_gpo.retrieval.uncertainty import bootstrap_intervals
from vse_gpo.storage.registry import DATA_PARTS
from vse_gpo.storage.settings import build

FOUND = 3  # results shown per query
SIDE = 160  # pixels of an image, at most
AT_ONCE = 64

build_data = partial(build, parts=DATA_PARTS)


@dataclass(frozen=True)
class Item:
    """An image or a caption; ``picture`` is a data URI, or None if there are only features."""

    text: str
    picture: str | None
    right: bool  # belongs to the query


ShowRow = Callable[[int, bool], Item]


@dataclass(frozen=True)
class ShownQuery:
    """A query, the rank of its best match counted from 1, and its top results."""

    query: Item
    rank: int
    found: list[Item]


@dataclass(frozen=True)
class Tested:
    """A run's test split, encoded again."""

    scores: dict[str, Scores]
    examples: dict[str, list[ShownQuery]]  # title → queries


def run_test(model: VSE, dataset: dict[str, Any], count: int, seed: int) -> Tested:
    """Scores with intervals, and the ``count`` worst and best queries of each direction.

    Args:
        model: the run's model.
        dataset: settings of the data set, as the run wrote them.
        count: queries of each kind; if many share a rank, some of them are drawn.
        seed: seed of the draws and of the intervals.

    Raises:
        VSEError: if the data set cannot be opened.
    """
    data = open_data(model, dataset, build_data, split=dataset["test_split"], batch_size=AT_ONCE, workers=0)
    split = data.split("test")
    test = Gallery(similarities=encode_split(model, data).similarities(), caption_to_image=split.caption_to_image)
    outcomes = run_protocols(test, dataset["test_protocols"], {})
    searched = Searched(dataset["name"], split.name, len(split.images), len(split.captions))
    scores = {
        protocol: Scores(
            test_set=searched,
            metrics=dict(outcome.metrics()),
            intervals={
                name: (float(low), float(high))
                for name, (low, high) in bootstrap_intervals(
                    outcome, test.image_count, np.random.default_rng(seed)
                ).items()
            },
        )
        for protocol, outcome in outcomes.items()
    }
    (whole,) = run_protocols(test, ["all"], {}).values()
    shelf = Shelf(split, drawable_images(split, dataset, build_data))
    return Tested(scores, _examples(whole, test.similarities.image_caption, shelf, count, np.random.default_rng(seed)))


class Shelf:
    """Images and captions of a split, by row, as the page shows them."""

    def __init__(self, split: Split, pictures: ImageSource | None) -> None:
        self.split = split
        self.pictures = pictures

    def image(self, row: int, right: bool) -> Item:
        picture = None if self.pictures is None else data_uri(self.pictures[row])
        return Item(self.split.images.name(row), picture, right)

    def caption(self, row: int, right: bool) -> Item:
        return Item(self.split.captions[row], None, right)


def data_uri(pixels: Tensor) -> str:
    """An image as a data URI, no larger than it is shown at twice the screen's resolution."""
    image = Image.fromarray(pixels.permute(1, 2, 0).numpy())
    image.thumbnail((2 * SIDE, 2 * SIDE))
    file = io.BytesIO()
    image.save(file, "PNG" if max(image.size) < SIDE else "JPEG", quality=85)
    kind = "png" if max(image.size) < SIDE else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode()}"


def _examples(
    outcome: Outcome, similarity: Similarity, shelf: Shelf, count: int, random: np.random.Generator
) -> dict[str, list[ShownQuery]]:
    owner, turned = shelf.split.caption_to_image, similarity.transpose()
    sides: dict[str, tuple[str, Similarity, ShowRow, ShowRow, Callable[[int, int], bool]]] = {
        "i2t": ("Image → captions", similarity, shelf.image, shelf.caption, lambda q, f: bool(owner[f] == q)),
        "t2i": ("Caption → images", turned, shelf.caption, shelf.image, lambda q, f: bool(owner[q] == f)),
    }
    shown: dict[str, list[ShownQuery]] = {}
    for queries in outcome.queries:
        if queries.ranks is None or queries.direction not in sides:
            continue
        title, asked, show_query, show_found, belongs = sides[queries.direction]
        order = np.lexsort((random.random(len(queries.ranks)), queries.ranks))
        for kind, chosen in (("worst", order[::-1][:count]), ("best", order[:count])):
            shown[f"{title}: the {kind}"] = [
                ShownQuery(
                    show_query(row, True),
                    int(rank) + 1,
                    [show_found(f, belongs(row, f)) for f in _first(asked, row)],
                )
                for row, rank in zip(queries.rows[chosen].tolist(), queries.ranks[chosen].tolist(), strict=True)
            ]
    return shown


def _first(similarity: Similarity, query: int) -> Sequence[int]:
    """What is ranked first for the query in a row."""
    items = similarity.shape[1]
    [values] = similarity.tile(slice(query, query + 1), slice(0, items))
    found: list[int] = values.topk(min(FOUND, items)).indices.tolist()
    return found
