"""Files of a tar → samples: an image and its captions, by the conventions of WebDataset and img2dataset."""

import json
from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Any, NamedTuple

from vse_gpo.data.shards.members import Member, ReadAt
from vse_gpo.errors import printable

IMAGES = ("jpg", "jpeg", "png", "webp")
TEXTS = ("txt", "json")


class ShardSample(NamedTuple):
    """An image in a shard, and what is said of it."""

    name: str  # the key, or the image id of its JSON
    offset: int  # of the image's bytes
    size: int
    captions: list[str]


class BrokenSample(NamedTuple):
    """A sample that is left out."""

    line: str  # its key, and why


def samples(files: Iterable[Member], read: ReadAt, stem: str) -> Iterator[ShardSample | BrokenSample]:
    """Samples of a shard, in order.

    The key of a file is its path up to the first dot of its name; files of one key that follow each other are a sample.
    One of them is an image (.jpg, .jpeg, .png or .webp). Captions are the lines of the .txt; without one, ``captions``
    or ``caption`` of the .json, a text or a list of texts. Blank lines do not count, and other files are not read.

    Args:
        files: of the tar.
        read: reads the tar.
        stem: begins the names of samples, ``STEM/KEY``, that do not bring an ``image_id`` in a JSON that is read.
    """
    seen: set[str] = set()
    for key, group in groupby(_keyed(files), key=lambda one: one[0]):
        found = [(kind, file) for _, kind, file in group]
        images = [file for kind, file in found if kind in IMAGES]
        texts = {kind: file for kind, file in found if kind in TEXTS}
        if not images and not texts:
            continue  # no sample: a text about the shard, for example
        place = printable(f"{stem}/{key}")
        if key in seen:
            yield BrokenSample(f"{place}: the key came before, expected it once")
        elif len(images) != 1:
            named = f" ({', '.join(printable(image.name) for image in images)})" if images else ""
            yield BrokenSample(f"{place}: {len(images) or 'no'} images{named}, expected one")
        elif len(texts) < sum(kind in TEXTS for kind, _ in found):
            yield BrokenSample(f"{place}: two texts of one kind, expected one")
        elif not images[0].size:
            yield BrokenSample(f"{place}: the image is empty")
        else:
            yield _described(place, images[0], texts, read)
        seen.add(key)


def _keyed(files: Iterable[Member]) -> Iterator[tuple[str, str, Member]]:
    """Key and kind of each file that has both."""
    for file in files:
        folder, slash, name = file.name.removeprefix("./").rpartition("/")
        begin, dot, kind = name.partition(".")
        if begin and dot and not (begin.startswith("__") and begin.endswith("__")):
            yield folder + slash + begin, kind.lower(), file


def _described(place: str, image: Member, texts: dict[str, Member], read: ReadAt) -> ShardSample | BrokenSample:
    if not texts:
        return BrokenSample(f"{place}: no caption, expected a .txt or .json beside the image")
    kind = next(kind for kind in TEXTS if kind in texts)
    try:
        text = read(texts[kind].offset, texts[kind].size).decode("utf-8-sig")
        image_id, captions = (None, text.split("\n")) if kind == "txt" else _of_json(json.loads(text))
    except (ValueError, RecursionError) as error:  # not UTF-8, or not JSON
        return BrokenSample(printable(f"{place}: the .{kind} cannot be read ({error})"))
    captions = [line for caption in captions if (line := " ".join(caption.split()))]
    if not captions:
        return BrokenSample(f"{place}: no caption in the .{kind}")
    return ShardSample(place if image_id is None else image_id, image.offset, image.size, captions)


def _of_json(content: Any) -> tuple[str | None, list[str]]:
    """Image id and captions; half of a character is refused, as JSON may hold it.

    Raises:
        ValueError: if there are no texts where captions should be.
    """
    if not isinstance(content, dict):
        raise ValueError(f"found {type(content).__name__}, expected an object")
    found: Any = next((content[name] for name in ("captions", "caption") if content.get(name) is not None), [])
    captions = [found] if isinstance(found, str) else found
    if not isinstance(captions, list) or not all(isinstance(caption, str) for caption in captions):
        raise ValueError("expected captions as texts")
    image_id = content.get("image_id")
    "".join([*captions, "" if image_id is None else str(image_id)]).encode()
    return None if image_id is None else printable(str(image_id)), captions
