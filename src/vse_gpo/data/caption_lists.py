"""Caption lists as people have them → captions with their images; nothing is left out or changed without a note."""

import csv
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from vse_gpo.data.files import read_text
from vse_gpo.errors import VSEError, described

IMAGE = ("image", "image_name", "filename", "file_name", "file", "image_path", "filepath", "path", "img")
CAPTION = ("caption", "comment", "text", "sentence", "description", "raw")
SPLIT = ("split", "set", "partition")
DELIMITERS = ",\t|;"
TOKEN = re.compile(r"(?P<file>[^\t]+)#\d+\t(?P<caption>.*)")  # Flickr's files: name#number TAB caption


class Described(NamedTuple):
    """A caption of an image."""

    split: str  # empty where the source has none
    image_id: str
    file: str
    caption: str


class CaptionList(NamedTuple):
    """What a source holds, and what of it was left out or changed."""

    described: list[Described]
    notes: list[str]


def read_captions(path: Path) -> CaptionList:
    """Captions of a file, told by its content: Karpathy's or COCO's JSON, Flickr's token files, or a table.

    Raises:
        VSEError: if it cannot be read, a caption would change, or one image id stands for two files.
    """
    try:
        text = read_text(path)
    except OSError as error:
        raise VSEError(f"{path}: cannot be read ({(error.strerror or str(error)).lower()})") from error
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    notes: list[str] = []
    if text.lstrip().startswith(("{", "[")):
        found = _read_json(text, path, notes)
    elif TOKEN.match(text):
        found = _read_token(text, path)
    else:
        found = _read_table(text, path, notes)
    described = [one for one in (_checked(one, place, notes) for place, one in found) if one is not None]
    if not described:
        raise VSEError(f"{path}: no caption left of its rows" + (f", first: {notes[0]}" if notes else ""))
    _check_files(described, path)
    return CaptionList(described, notes)


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


def _check_files(described: list[Described], path: Path) -> None:
    files: dict[str, str] = {}
    for one in described:
        if files.setdefault(one.image_id, one.file) != one.file:
            raise VSEError(_two_files(path, one.image_id, files[one.image_id], one.file))


def _two_files(path: Path, image_id: Any, file: str, other: str) -> str:
    return (
        f"{path}: image id {image_id} stands for {file} and {other}, expected one file for each id; give them ids of "
        "their own"
    )


Found = Iterator[tuple[str, Described]]  # where it stands, and what


def _read_json(text: str, path: Path, notes: list[str]) -> Found:
    try:
        content = json.loads(text)
        if isinstance(content, dict) and "annotations" in content:
            yield from _read_coco(content, path, notes)
        else:
            yield from _read_karpathy(content, notes)
    except VSEError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise VSEError(
            f"{path}: {type(error).__name__} {error}; expected Karpathy's JSON (images with sentences) or COCO's "
            "(images and annotations)"
        ) from error


def _read_karpathy(content: Any, notes: list[str]) -> Found:
    """Sentences; ids are COCO's own where they are known."""
    for image in content["images"]:
        image_id = str(image.get("cocoid", image["imgid"]))
        file = str(Path(image.get("filepath", ""), image["filename"]))
        if not image["sentences"]:
            notes.append(f"image {image_id}: no caption, left out")
        for sentence in image["sentences"]:
            yield (
                f"image {image_id}",
                Described(image["split"] or "", image_id, file, "" if sentence["raw"] is None else sentence["raw"]),
            )


def _read_coco(content: Any, path: Path, notes: list[str]) -> Found:
    """COCO's ``captions_*.json``; it names no split."""
    files: dict[Any, str] = {}
    for image in content["images"]:
        if files.setdefault(image["id"], image["file_name"]) != image["file_name"]:
            raise VSEError(_two_files(path, image["id"], files[image["id"]], image["file_name"]))
    described: dict[Any, list[str]] = {image: [] for image in files}
    for annotation in content["annotations"]:
        described[annotation["image_id"]].append("" if annotation["caption"] is None else annotation["caption"])
    for image, captions in described.items():
        if not captions:
            notes.append(f"image {image}: no caption, left out")
        for caption in captions:
            yield f"image {image}", Described("", str(image), files[image], caption)


def _read_token(text: str, path: Path) -> Found:
    for number, line in enumerate(text.removesuffix("\n").split("\n"), 1):
        row = TOKEN.fullmatch(line)
        if row is None:
            raise VSEError(f"{path}: line {number} is not IMAGE#NUMBER, a tab and a caption as the lines before")
        file = row["file"].strip()
        yield f"line {number}", Described("", file, file, row["caption"])


def _read_table(text: str, path: Path, notes: list[str]) -> Found:
    """Rows of a table with a header; commas and semicolons may stand inside quotes.

    Raises:
        VSEError: if a column is missing, or a row has too many columns or an open quote.
    """
    delimiter, columns = _header(text, path)
    quoted = delimiter in ",;"
    reader = csv.reader(
        io.StringIO(text, newline="\n"),
        delimiter=delimiter,
        quoting=csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE,
        strict=True,
    )
    width = len(next(reader))
    try:
        for row in reader:
            if len(row) > width:
                raise VSEError(
                    f"{path}: line {reader.line_num} has {len(row)} columns, expected {width}; put captions with "
                    f"{delimiter!r} in quotes"
                )
            if len(row) < width:
                if row:
                    notes.append(f"line {reader.line_num}: {len(row)} of {width} columns, left out")
                continue
            image, caption, split = (row[place].strip() if place is not None else "" for place in columns)
            yield f"line {reader.line_num}", Described(split, image, image, caption)
    except csv.Error as error:
        raise VSEError(f"{path}: line {reader.line_num}: {error}; is a quote open?") from error


def _header(text: str, path: Path) -> tuple[str, tuple[int, int, int | None]]:
    """The delimiter whose columns have an image and a caption, and the places of image, caption and split."""
    line = text.split("\n", 1)[0]
    for delimiter in DELIMITERS:
        names = [name.strip().strip('"').casefold() for name in line.split(delimiter)]
        image, caption, split = (
            next((names.index(name) for name in known if name in names), None) for known in (IMAGE, CAPTION, SPLIT)
        )
        if image is not None and caption is not None:
            if doubled := [
                names[place] for place in (image, caption, split) if place is not None and names.count(names[place]) > 1
            ]:
                raise VSEError(f"{path}: two columns are called {doubled[0]}, expected one; rename the other")
            return delimiter, (image, caption, split)
    raise VSEError(
        f"{path}: no columns for image and caption in its first line {line[:80]!r}, expected image, caption and maybe "
        "split, with , ; | or tabs between"
    )
