"""The columns of a table or of records that hold images, captions and splits: named by the user, or guessed."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from vse_gpo.data.caption_lists import Described, Found
from vse_gpo.errors import VSEError

KNOWN = {  # what a column is guessed by, the likeliest first
    "image": ("image", "image_name", "filename", "file_name", "file", "image_path", "filepath", "path", "img"),
    "caption": (
        *("caption", "captions", "comment", "comments", "text", "texts", "sentence", "sentences", "description"),
        *("descriptions", "raw", "sentences_raw", "txt"),
    ),
    "split": ("split", "set", "partition"),
}


class Wanted(NamedTuple):
    """Names of the columns as the user gives them; None guesses."""

    image: str | None = None
    caption: str | None = None
    split: str | None = None


class Columns(NamedTuple):
    """Names of the columns as the source has them."""

    image: str
    caption: str
    split: str | None

    def __str__(self) -> str:
        found = [f"{part} from {name!r}" for part, name in self._asdict().items() if name is not None]
        return ", ".join(found) + ("" if self.split is not None else ", no split")


def folded(name: str) -> str:
    """A column's name as it is compared."""
    return name.strip().strip('"').strip().casefold()


def guess_columns(names: Sequence[str], wanted: Wanted) -> dict[str, str]:
    """Those of the columns ``image``, ``caption`` and ``split`` that are there, with their names in the source.

    Args:
        names: of all columns.
        wanted: names that the user gave.
    """
    by_name = {folded(name): name for name in reversed(names)}
    found = {}
    for part, known in KNOWN.items():
        given = getattr(wanted, part)
        asked = known if given is None else (folded(given),)
        if (name := next((by_name[name] for name in asked if name in by_name), None)) is not None:
            found[part] = name if given not in names else given
    return found


def find_columns(names: Sequence[str], wanted: Wanted, source: object) -> Columns:
    """The columns for image, caption and, if there is one, split.

    Args:
        names: of all columns.
        wanted: names that the user gave.
        source: what has the columns, for the message.

    Raises:
        VSEError: if one is not there, with those that are, or two have one name.
    """
    found = guess_columns(names, wanted)
    there = ", ".join(repr(name.strip()) for name in names)
    for part, given in wanted._asdict().items():
        if given is not None and part not in found:
            raise VSEError(f"{source}: no column {part}_column={given}, found {there}")
    if missing := [part for part in ("image", "caption") if part not in found]:
        settings = " and ".join(f"{part}_column=" for part in missing)
        raise VSEError(f"{source}: no column for {' and '.join(missing)}, found {there}; set {settings}")
    alike = [folded(name) for name in names]
    for part, name in found.items():
        if alike.count(folded(name)) > 1 and (getattr(wanted, part) != name or names.count(name) > 1):
            raise VSEError(f"{source}: two columns are called {folded(name)}, expected one; rename the other")
    return Columns(found["image"], found["caption"], found.get("split"))


def described_records(records: Iterable[tuple[str, Mapping[str, Any]]], columns: Columns, notes: list[str]) -> Found:
    """Captions of records, each with one caption or a list of them; an image's file name is its id.

    Args:
        records: where each stands, and its values by column.
        columns: names of the columns.
        notes: takes the records without a caption.
    """
    for place, record in records:
        image, captions = record.get(columns.image), captions_in(record.get(columns.caption))
        split = record.get(columns.split) if columns.split is not None else None
        if not captions:
            notes.append(f"{place}: no caption, left out")
        image = image.strip() if isinstance(image, str) else "" if image is None else image
        for caption in captions:
            yield (
                place,
                Described(split.strip() if isinstance(split, str) else split or "", image, image, caption or ""),
            )


def captions_in(value: Any) -> list[Any]:
    """Captions in one value: a text, a list, or a list written as JSON, as in the tables of some hubs."""
    if isinstance(value, str) and value.lstrip().startswith('["'):
        try:
            value = json.loads(value)
        except ValueError:  # a caption in brackets
            return [value]
    if isinstance(value, list | tuple):
        return list(value)
    return [] if value is None else [value]
