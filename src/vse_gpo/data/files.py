"""Read and check the files of a data set. No torch here, so that ``check_data`` starts fast.

ROOT/precomp/{split}_caps.txt and {split}_ids.txt hold the captions and their image ids, ``{split}_ims.npy`` the region
features; ``id_mapping.json`` and a folder of images give the pixels.
"""

import json
import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

import numpy as np
import numpy.typing as npt

from vse_gpo.errors import VSEError

CAPTION_ID = re.compile(r".+#\d+")  # names a caption as Flickr's files do: image.jpg#0
HELP = "python -m vse_gpo.check_data says what belongs there"


@dataclass(frozen=True, kw_only=True)
class Listing:
    """The text of a split: captions in image-major order, and the image that each describes."""

    name: str
    captions: list[str]
    image_ids: list[str]  # without repeats
    caption_to_image: npt.NDArray[np.int64]  # row of the image, per caption


def read_listing(root: Path, name: str) -> Listing:
    """Read captions and image ids of one split.

    Raises:
        VSEError: if a file is missing or unreadable, or the two do not match.
    """
    if not root.is_dir():
        raise VSEError(f"dataset.root={root}: no such folder; set dataset.root to the data; {HELP}")
    captions = read_lines(root / "precomp" / f"{name}_caps.txt")
    ids_file = root / "precomp" / f"{name}_ids.txt"
    image_ids, caption_to_image = match_ids(read_lines(ids_file), len(captions), ids_file)
    return Listing(name=name, captions=captions, image_ids=image_ids, caption_to_image=caption_to_image)


def read_lines(path: Path) -> list[str]:
    """Read the lines of a UTF-8 file, with or without a byte order mark; only a newline ends a line.

    Raises:
        VSEError: if the file is missing, empty or not UTF-8.
    """
    try:
        text = read_text(path)
    except OSError as error:
        raise VSEError(f"{path}: {_reason(error)}; {HELP}") from None
    if not text:
        raise VSEError(f"{path}: the file is empty, expected one line per caption or id")
    if "\n" not in text:
        text = text.replace("\r", "\n")  # the line ends of old Macs, which some spreadsheets still write
    return [line.removesuffix("\r") for line in text.removesuffix("\n").split("\n")]


def read_text(path: Path) -> str:
    """Read a UTF-8 file, with or without a byte order mark.

    Raises:
        OSError: if the file cannot be read.
        VSEError: if it is not UTF-8.
    """
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise VSEError(f"{path}: line {line} is not UTF-8; convert the file to UTF-8") from None


def match_ids(ids: Sequence[str], captions: int, path: Path) -> tuple[list[str], npt.NDArray[np.int64]]:
    """Image ids and the image row of each caption, from either form of an ids file.

    With one id per caption, images may have different numbers of captions. With one id per image, all images must have
    the same number.

    Raises:
        VSEError: if the counts do not match, a line is blank or an image's captions are not together.
    """
    ids = [line.strip() for line in ids]
    if len(ids) == captions and all(CAPTION_ID.fullmatch(line) for line in ids):
        ids = [line.rpartition("#")[0] for line in ids]
    if "" in ids:
        raise VSEError(f"{path}: line {ids.index('') + 1} is blank, expected an image id on every line")
    if len(ids) == captions:
        return _match_repeated_ids(ids, path)
    per_image, rest = divmod(captions, len(ids))
    if per_image == 0 or rest:
        raise VSEError(
            f"{path}: {len(ids)} ids for {captions} captions, expected one id per caption, or one per image with "
            f"the same number of captions each; {HELP}"
        )
    if len(set(ids)) != len(ids):
        raise VSEError(f"{path}: an id occurs twice among {len(ids)} image ids, expected each once")
    return ids, np.repeat(np.arange(len(ids)), per_image)


def _match_repeated_ids(ids: list[str], path: Path) -> tuple[list[str], npt.NDArray[np.int64]]:
    rows: dict[str, int] = {}
    index = np.empty(len(ids), dtype=np.int64)
    for caption, image_id in enumerate(ids):
        index[caption] = rows.setdefault(image_id, len(rows))
        if caption and index[caption] < index[caption - 1]:
            raise VSEError(
                f"{path}: line {caption + 1} goes back to image {image_id}, expected an image's captions together"
            )
    return list(rows), index


def open_features(path: Path) -> np.memmap:
    """Memory-map features (rows, regions, width), float32 or float16.

    Raises:
        VSEError: if the file is missing, truncated or a pickle, or has another shape or type.
    """
    try:
        features = np.lib.format.open_memmap(path, mode="r")
    except OSError as error:
        raise VSEError(f"{path}: {_reason(error)}; extract features; {HELP}") from None
    except ValueError as error:
        reason = str(error).splitlines()[0]
        raise VSEError(f"{path}: not a complete .npy file of numbers ({reason}); fetch it again") from None
    if features.ndim != 3 or 0 in features.shape or features.dtype not in (np.float32, np.float16):
        raise VSEError(
            f"{path}: shape {features.shape} of {features.dtype}, expected (images, regions, width) of float32 or "
            "float16, none of them 0"
        )
    return features


def feature_rows(rows: int, listing: Listing, path: Path) -> npt.NDArray[np.int64]:
    """Row of each image's features, in a file with one row per image or one per caption.

    Raises:
        VSEError: if the file has another number of rows.
    """
    images, captions = len(listing.image_ids), len(listing.captions)
    if rows == images:
        return np.arange(images)
    if rows == captions:
        return np.unique(listing.caption_to_image, return_index=True)[1]
    raise VSEError(
        f"{path}: {rows} rows for {images} images with {captions} captions, expected one row per image or per caption; "
        f"{HELP}"
    )


def find_images(root: Path, folder: str, listing: Listing) -> list[str]:
    """Find the file of each image; paths are relative to the folder.

    Raises:
        VSEError: if the mapping or a file is missing, or a path points outside the folder.
    """
    mapping_file = root / "id_mapping.json"
    mapping = read_mapping(mapping_file, folder)
    unknown = [image_id for image_id in listing.image_ids if image_id not in mapping]
    if unknown:
        raise VSEError(f"{mapping_file}: no file for image {name_some(unknown)} of {listing.name}; {HELP}")
    files = [mapping[image_id] for image_id in listing.image_ids]
    missing = missing_files((root / folder).resolve(), files, mapping_file)
    if missing:
        hint = similar_file(root / folder, missing[0])
        raise VSEError(f"{root / folder}: no file {name_some(missing)} of {listing.name}{hint}; {HELP}")
    return files


def similar_file(folder: Path, name: str) -> str:
    """A hint at a file whose name differs only in case, slashes, spaces or Unicode form; empty if there is none."""

    def plain(text: str) -> str:
        return unicodedata.normalize("NFC", text.replace("\\", "/").strip()).casefold()

    place = folder / PurePath(name.replace("\\", "/").strip()).parent
    if not place.is_dir():
        return ""
    for entry in os.scandir(place):
        found = (Path(entry.path)).relative_to(folder).as_posix()
        if plain(found) == plain(name) and entry.is_file():
            form = unicodedata.normalize("NFC", found) == unicodedata.normalize("NFC", name)
            return f", but {found!r}" + (" in another Unicode form (NFC or NFD); rename one" if form else "")
    return ""


def read_mapping(path: Path, folder: str) -> dict[str, str]:
    """Read {image id: file under the folder}.

    Raises:
        VSEError: if the file is missing or not such a mapping.
    """
    expected = f"expected {{image id: file under {folder}}}"
    try:
        mapping = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise VSEError(f"{path}: {_reason(error)}, {expected}; {HELP}") from None
    except (ValueError, RecursionError) as error:
        raise VSEError(f"{path}: not JSON ({error}), {expected}") from None
    if not isinstance(mapping, dict) or not all(isinstance(name, str) for name in mapping.values()):
        raise VSEError(f"{path}: not a mapping of names to names, {expected}")
    return mapping


def missing_files(folder: Path, names: Sequence[str], source: Path) -> list[str]:
    """Names without a file under the folder.

    Lists each subfolder once: checking a hundred thousand files one by one takes minutes on a network disk.

    Args:
        folder: resolved path.
        names: relative to the folder.
        source: file that holds the names, for the message.

    Raises:
        VSEError: if a name points outside the folder, directly or through a link.
    """
    by_parent: dict[PurePath, list[str]] = defaultdict(list)
    for name in names:
        by_parent[PurePath(name).parent].append(name)
    missing: list[str] = []
    for parent, inside in by_parent.items():
        present = _list_folder(_resolve_inside(folder, parent, source))
        for name in inside:
            entry = present.get(PurePath(name).name)
            if entry is None or not entry.is_file():
                missing.append(name)
            elif entry.is_symlink():
                _resolve_inside(folder, PurePath(name), source)
    return missing


def _list_folder(folder: Path) -> dict[str, "os.DirEntry[str]"]:
    try:
        with os.scandir(folder) as entries:
            return {entry.name: entry for entry in entries}
    except OSError as error:
        raise VSEError(f"{folder}: {_reason(error)}; {HELP}") from None


def _resolve_inside(folder: Path, name: PurePath, source: Path) -> Path:
    place = (folder / name).resolve()
    if not place.is_relative_to(folder):
        raise VSEError(
            f"{source}: {str(name)!r} points to {place}, outside {folder}; move the images inside it, or make the "
            "whole folder a link"
        )
    return place


def name_some(names: Sequence[str]) -> str:
    """The first name, and the number of the others."""
    return repr(names[0]) if len(names) == 1 else f"{names[0]!r} and {len(names) - 1} more"


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
