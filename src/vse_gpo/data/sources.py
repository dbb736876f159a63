"""Captions from any source → the files that the data sets read: precomp/*_caps.txt, *_ids.txt and id_mapping.json."""

import csv
import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vse_gpo.errors import VSEError
from vse_gpo.storage.writing import write_text

SPLITS = {"train": "train", "restval": "train", "val": "dev", "dev": "dev", "test": "test"}
SHARES = {"train": 0.8, "dev": 0.1, "test": 0.1}  # fractions of the images, if the source has no splits


class Described(NamedTuple):
    """A caption of an image."""

    split: str  # empty if the source has none
    image_id: str
    file: str
    caption: str


def read_csv(path: Path) -> Iterator[Described]:
    """Read the rows of a CSV file; an image's id is its file name."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = csv.DictReader(file)
        missing = {"image", "caption"} - set(rows.fieldnames or ())
        if missing:
            raise VSEError(f"{path}: no column {' or '.join(sorted(missing))}, expected image, caption and maybe split")
        for row in rows:
            if row["image"] is None or row["caption"] is None:
                raise VSEError(f"{path}: line {rows.line_num} is short of columns, expected {rows.fieldnames}")
            yield Described(row.get("split") or "", row["image"], row["image"], row["caption"])


def read_karpathy(path: Path) -> Iterator[Described]:
    """Read the sentences of Karpathy's JSON; image ids are COCO's own if given."""
    try:
        images = json.loads(path.read_text(encoding="utf-8"))["images"]
        for image in images:
            image_id = str(image.get("cocoid", image["imgid"]))
            file = str(Path(image.get("filepath", ""), image["filename"]))
            for sentence in image["sentences"]:
                yield Described(image["split"], image_id, file, sentence["raw"])
    except (ValueError, KeyError, TypeError) as error:
        raise VSEError(f"{path}: {type(error).__name__} {error}, expected Karpathy's JSON with images") from error


def by_split(described: list[Described], seed: int) -> dict[str, dict[str, list[Described]]]:
    """Split → image id → its captions, in the source's order; the seed assigns images without a split."""
    images: dict[str, list[Described]] = defaultdict(list)
    for one in described:
        images[one.image_id].append(one)
    wrong = sorted({one.split for one in described} - SPLITS.keys() - {""})
    if wrong:
        raise VSEError(f"split {wrong[0]!r}, expected one of {', '.join(SPLITS)}")
    found: dict[str, dict[str, list[Described]]] = {split: {} for split in SHARES}
    place = np.random.default_rng(seed).permutation(len(images))
    bounds = np.floor(np.cumsum(list(SHARES.values())) * len(images) + 0.5)
    dealt = np.array(list(SHARES))[np.searchsorted(bounds, place, side="right")]
    for (image_id, own), split in zip(images.items(), dealt.tolist(), strict=True):  # in the source's order
        if len({one.split for one in own}) != 1:
            raise VSEError(f"image {image_id} lies in several splits, expected one")
        found[SPLITS[own[0].split] if own[0].split else split][image_id] = own
    empty = [split for split, own in found.items() if not own]
    if empty:
        raise VSEError(f"no image in split {empty[0]}, expected some; {len(images)} images in all")
    return found


def prepare(*, source: str, out: str, seed: int) -> None:
    """Write the files and print the number of images and captions of each split.

    Args:
        source: a CSV file with columns image, caption and maybe split, or Karpathy's JSON.
        out: the data set's folder.
        seed: assigns images to splits, if the source has none.

    Raises:
        VSEError: if the source cannot be read, or captions would change that have features already.
    """
    counts = write_captions(Path(source).expanduser(), Path(out).expanduser(), seed)
    for split, (images, captions) in counts.items():
        print(f"{split}: {images:,} images, {captions:,} captions")


def write_captions(source: Path, out: Path, seed: int) -> dict[str, tuple[int, int]]:
    """Write the files; return the number of images and captions of each split.

    Raises:
        VSEError: if the source cannot be read, or captions would change that have features already.
    """
    try:
        described = list((read_karpathy if source.suffix == ".json" else read_csv)(source))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise VSEError(f"{source}: cannot be read ({error})") from error
    counts, texts = {}, {}
    mapping = {one.image_id: one.file for one in described}
    for split, images in by_split(described, seed).items():
        own = [one for captions in images.values() for one in captions]
        lines = [" ".join(one.caption.split()) for one in own]
        texts[out / "precomp" / f"{split}_caps.txt"] = "\n".join(lines) + "\n"
        texts[out / "precomp" / f"{split}_ids.txt"] = "\n".join(one.image_id for one in own) + "\n"
        counts[split] = len(images), len(own)
    for path, text in texts.items():
        features = path.with_name(f"{path.name.partition('_')[0]}_ims.npy")
        if features.exists() and path.exists() and path.read_text(encoding="utf-8") != text:
            raise VSEError(f"{path}: belongs to the features beside it, and would change; name a new folder")
    for path, text in texts.items():
        write_text(path, text)
    write_text(out / "id_mapping.json", json.dumps(mapping, indent=0) + "\n")
    return counts
