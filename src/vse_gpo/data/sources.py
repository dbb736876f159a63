"""Captions from any source → the files that the data sets read: precomp/*_caps.txt, *_ids.txt and id_mapping.json."""

import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vse_gpo.data.caption_lists import Described, read_captions
from vse_gpo.errors import VSEError, printable
from vse_gpo.storage.writing import write_text

SPLITS = {"train": "train", "restval": "train", "val": "dev", "dev": "dev", "test": "test"}
SHOWN = 10  # rows that were left out or changed
SHARES = {"train": 0.8, "dev": 0.1, "test": 0.1}  # fractions of the images, if the source has no splits


def by_split(described: Sequence[Described], seed: int) -> dict[str, dict[str, list[Described]]]:
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
        source: see ``read_captions``.
        out: the data set's folder.
        seed: assigns images to splits, if the source has none.

    Raises:
        VSEError: if the source cannot be read, or captions would change that have features already.
    """
    captions = read_captions(Path(source).expanduser())
    counts = write_captions(captions.described, Path(out).expanduser(), seed)
    for note in captions.notes[:SHOWN]:
        print(printable(note))
    if len(captions.notes) > SHOWN:
        print(f"and {len(captions.notes) - SHOWN} more rows left out or changed")
    for split, (images, texts) in counts.items():
        print(f"{split}: {images:,} images, {texts:,} captions")


def write_captions(described: Sequence[Described], out: Path, seed: int) -> dict[str, tuple[int, int]]:
    """Write the files; return the number of images and captions of each split.

    Raises:
        VSEError: if a split is unknown or empty, or captions would change that have features already.
    """
    counts, texts = {}, {}
    mapping = {one.image_id: one.file for one in described}
    for split, images in by_split(described, seed).items():
        own = [one for captions in images.values() for one in captions]
        texts[out / "precomp" / f"{split}_caps.txt"] = "\n".join(one.caption for one in own) + "\n"
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
