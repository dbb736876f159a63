"""Captions in JSON: Karpathy's splits, COCO's annotations, BLIP's lists, and one record a line."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from vse_gpo.data.caption_lists import Described, Found, SourcePart, two_files
from vse_gpo.data.sources.columns import Wanted, described_records, find_columns
from vse_gpo.errors import VSEError

PUBLISHED = {"coco": "coco", "flickr30k": "f30k", "flickr8k": "f8k"}  # Karpathy's names → those of the configs
EXPECTED = "expected Karpathy's JSON (images with sentences), COCO's (images and annotations) or records with columns"


def read_json_list(text: str, path: Path, wanted: Wanted, notes: list[str]) -> SourcePart:
    """Any of these forms, told by its content.

    Args:
        text: of the file, with newlines as line ends.
        path: of the file, for messages.
        wanted: names of the columns of records.
        notes: takes what is left out.

    Raises:
        VSEError: if it has none of these forms, here or while its captions are read.
    """
    lines = text.strip().split("\n")
    if len(lines) > 1 and _is_record(lines[0]):
        records = [(f"line {number}", _parsed(line, path, number)) for number, line in enumerate(lines, 1) if line]
        return _read_records(records, path, wanted, notes, "JSON, one record a line")
    content = _parsed(text, path)
    if isinstance(content, list):
        records = [(f"entry {number}", one) for number, one in enumerate(content, 1)]
        return _read_records(records, path, wanted, notes, "a list of records in JSON")
    if not isinstance(content, dict) or "images" not in content:
        return _read_records([("line 1", content)], path, wanted, notes, "JSON, one record")
    if "annotations" in content:
        return SourcePart(_explained(_read_coco(content, path, notes), path), "COCO's annotations")
    layout = PUBLISHED.get(str(content.get("dataset")), "own")
    return SourcePart(_explained(_read_karpathy(content, notes), path), "Karpathy's JSON", layout=layout)


def _is_record(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _parsed(text: str, path: Path, line: int | None = None) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        place = f"{path}: line {line}" if line else f"{path}"
        raise VSEError(f"{place}: {type(error).__name__} {error}; {EXPECTED}") from error


def _explained(found: Found, path: Path) -> Found:
    """The same captions; what the file lacks is told in one line."""
    try:
        yield from found
    except VSEError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise VSEError(f"{path}: {type(error).__name__} {error}; {EXPECTED}") from error


def _read_records(
    records: list[tuple[str, Any]], path: Path, wanted: Wanted, notes: list[str], kind: str
) -> SourcePart:
    for place, record in records:
        if not isinstance(record, Mapping):
            raise VSEError(f"{path}: {place} is no record of names and values; {EXPECTED}")
    names = list(dict.fromkeys(name for _, record in records for name in record))
    columns = find_columns(names, wanted, path)
    return SourcePart(described_records(iter(records), columns, notes), f"{kind}: {columns}")


def _read_karpathy(content: Any, notes: list[str]) -> Iterator[tuple[str, Described]]:
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


def _read_coco(content: Any, path: Path, notes: list[str]) -> Iterator[tuple[str, Described]]:
    """COCO's ``captions_*.json``; it names no split."""
    files: dict[Any, str] = {}
    for image in content["images"]:
        if files.setdefault(image["id"], image["file_name"]) != image["file_name"]:
            raise two_files(path, image["id"], files[image["id"]], image["file_name"])
    described: dict[Any, list[str]] = {image: [] for image in files}
    for annotation in content["annotations"]:
        described[annotation["image_id"]].append("" if annotation["caption"] is None else annotation["caption"])
    for image, captions in described.items():
        if not captions:
            notes.append(f"image {image}: no caption, left out")
        for caption in captions:
            yield f"image {image}", Described("", str(image), files[image], caption)
