"""Captions with their images, as any source gives them; nothing is left out or changed without a note."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from vse_gpo.errors import VSEError, described


class Described(NamedTuple):
    """A caption of an image."""

    split: str  # empty where the source has none
    image_id: str
    file: str
    caption: str


Found = Iterator[tuple[str, Described]]  # where it stands, and what
Images = Callable[[], Iterator[tuple[str, bytes]]]  # file and content, as often as it is called


class SourcePart(NamedTuple):
    """What one file of a source holds; its notes are written while ``found`` is read."""

    found: Found
    told: str  # how it is read: its kind, and its columns
    images: Images | None = None  # None where it only names its image files
    layout: str = "own"  # data set that it belongs to, see ``vse_gpo.data.layout``


class CaptionList(NamedTuple):
    """What a source holds, and what of it was left out or changed."""

    described: list[Described]
    notes: list[str]  # rows that were left out or changed
    told: list[str]  # how its files were read
    images: Images | None  # None where it only names its image files
    folder: Path | None  # where the named files lie, if they were found
    layout: str


def checked_captions(found: Iterable[tuple[str, Described]], source: str, notes: list[str]) -> list[Described]:
    """Captions on one line each; blank ones are left out, with a note.

    Args:
        found: captions, and where each stands.
        source: what they come from, for messages.
        notes: takes what was left out or changed.

    Raises:
        VSEError: if one is no text, an id is not one line, one id stands for two files, or no caption is left.
    """
    kept = [one for one in (_checked(one, place, notes) for place, one in found) if one is not None]
    if not kept:
        raise VSEError(f"{source}: no caption left of its rows" + (f", first: {notes[0]}" if notes else ""))
    files: dict[str, str] = {}
    for one in kept:
        if files.setdefault(one.image_id, one.file) != one.file:
            raise two_files(source, one.image_id, files[one.image_id], one.file)
    return kept


def two_files(source: object, image_id: object, file: str, other: str) -> VSEError:
    """The error of an id that two files have."""
    return VSEError(
        f"{source}: image id {image_id} stands for {file} and {other}, expected one file for each id; give them ids of "
        "their own"
    )


def _checked(one: Described, place: str, notes: list[str]) -> Described | None:
    """The caption on one line; None, with a note, where it is blank."""
    for text in one:
        _check_text(text, place)
    if one.image_id != one.image_id.strip() or len(one.image_id.splitlines()) > 1:
        raise VSEError(f"{place}: image id {one.image_id!r}, expected one line without blanks around it")
    caption = " ".join(one.caption.split())
    if not caption or not one.image_id:
        notes.append(f"{place}: blank {'caption' if one.image_id else 'image'}, left out")
        return None
    if len(one.caption.strip().splitlines()) > 1:
        notes.append(f"{place}: the caption's lines are joined")
    return one._replace(caption=caption)


def _check_text(text: Any, place: str) -> None:
    """Refuse what is no text, or no Unicode: JSON may hold anything, half of a character too."""
    if not isinstance(text, str):
        raise VSEError(f"{place}: found {described(text)}, expected a text")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise VSEError(f"{place}: {text[:60]!r} is not Unicode, expected a text") from None
