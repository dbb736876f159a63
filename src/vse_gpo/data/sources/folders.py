"""Folders of images with their captions: in one file, in several, or in a text file beside each image."""

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from vse_gpo.data.caption_lists import SourcePart
from vse_gpo.data.files import read_text
from vse_gpo.data.formats import image_suffixes
from vse_gpo.data.sources.columns import Columns, described_records
from vse_gpo.errors import VSEError

METADATA = ("metadata.csv", "metadata.jsonl", "metadata.parquet")  # of Hugging Face's image folders
SHARDS = (".parquet", ".tar", ".tgz")  # suffixes of files that are one data set together
LISTS = (".json", ".jsonl", ".csv", ".tsv", ".token", ".txt")
SPLIT_WORDS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "dev": "val", "test": "test"}


def files_under(folder: Path) -> list[Path]:
    """All files under a folder, in the order of their names; links to folders are not followed."""
    return sorted(Path(place) / name for place, _, names in os.walk(folder) for name in names)


def caption_files(folder: Path) -> list[Path]:
    """The files of a folder that hold its captions; none where each image has a text file of its own.

    Raises:
        VSEError: if there are none, or several that are no parts of one data set.
    """
    files = files_under(folder)
    if metadata := [path for path in files if path.name in METADATA]:
        return metadata
    for suffix in SHARDS:
        if shards := [path for path in files if path.suffix == suffix]:
            return shards
    if any(True for _ in texts_beside_images(files)):
        return []
    lists = [path for path in files if path.parent == folder and path.suffix in LISTS]
    if not lists:
        raise VSEError(f"{folder}: no captions in it, expected a caption list, or a text file beside each image")
    splits = [split_in_name(path, folder) for path in lists]
    if len(lists) > 1 and ("" in splits or len(set(splits)) < len(splits)):
        raise VSEError(f"{folder}: several caption lists, {', '.join(path.name for path in lists)}; name one of them")
    return lists


def split_in_name(path: Path, folder: Path) -> str:
    """The split that a file's name, or the folders that it lies in, tell; empty if they tell none."""
    words = re.split(r"[^a-z]+", path.relative_to(folder).as_posix().casefold())
    return next((SPLIT_WORDS[word] for word in reversed(words) if word in SPLIT_WORDS), "")


def texts_beside_images(files: Sequence[Path]) -> Iterator[tuple[Path, Path]]:
    """Images with the text files of their names."""
    texts = {path.with_suffix(""): path for path in files if path.suffix == ".txt"}
    for image in files:
        if image.suffix.casefold() in image_suffixes() and image.with_suffix("") in texts:
            yield image, texts[image.with_suffix("")]


def read_texts(folder: Path, notes: list[str]) -> SourcePart:
    """A text file beside each image, with a caption a line; names of folders may tell the split.

    Args:
        folder: with the images.
        notes: takes images without a text, and texts without an image.
    """
    files = files_under(folder)

    def records() -> Iterator[tuple[str, dict[str, Any]]]:
        pairs = dict(texts_beside_images(files))
        used = {*pairs, *pairs.values()}
        for path in files:
            name = path.relative_to(folder).as_posix()
            if path in pairs:
                captions = [line for line in read_text(pairs[path]).splitlines() if line.strip()]
                yield name, {"image": name, "caption": captions, "split": split_in_name(path, folder)}
            elif path not in used and path.suffix == ".txt":
                notes.append(f"{name}: no image of this name, left out")
            elif path not in used and path.suffix.casefold() in image_suffixes():
                notes.append(f"{name}: no text file of this name, left out")

    columns = Columns("image", "caption", "split")
    return SourcePart(
        described_records(records(), columns, notes), "a text file beside each image, with a caption a line"
    )
