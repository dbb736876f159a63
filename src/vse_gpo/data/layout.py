"""Captions and images → what the data sets read: precomp/*_caps.txt and *_ids.txt, id_mapping.json and images."""

import json
import zlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from vse_gpo.data.caption_lists import Described, Images
from vse_gpo.data.files import name_some
from vse_gpo.data.progress import advance, progress_bar
from vse_gpo.errors import VSEError, did_you_mean, first_line
from vse_gpo.storage.writing import whole_folder

SPLITS = {
    **dict.fromkeys(("train", "restval"), "train"),
    **dict.fromkeys(("val", "dev", "valid", "validation"), "dev"),
    "test": "test",
}
SHARES = {"train": 0.8, "dev": 0.1, "test": 0.1}  # fractions of the images, if the source has no splits


class Layout(NamedTuple):
    """How the config of a data set reads a folder."""

    test: str  # name of its test split
    image_folder: str
    captions: int | None  # of each image, those that the benchmark counts; None takes all


LAYOUTS = {  # option of dataset= → what it reads
    "own": Layout("test", "images", None),
    "coco": Layout("testall", "images", 5),
    "f30k": Layout("test", "flickr30k-images", 5),
    "f8k": Layout("test", "flickr30k-images", 5),
}


def named_layout(name: str) -> Layout:
    """The layout of a data set's config.

    Raises:
        VSEError: if there is none of this name.
    """
    if name not in LAYOUTS:
        raise VSEError(f"layout={name}{did_you_mean(name, LAYOUTS)}, expected one of {', '.join(LAYOUTS)}")
    return LAYOUTS[name]


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


def counted_captions(described: Sequence[Described], layout: Layout) -> list[Described]:
    """The captions that the benchmark of a layout counts: of each image the first ones, in the source's order."""
    seen: dict[str, int] = defaultdict(int)
    kept = []
    for one in described:
        seen[one.image_id] += 1
        if layout.captions is None or seen[one.image_id] <= layout.captions:
            kept.append(one)
    return kept


def caption_texts(
    described: Sequence[Described], out: Path, seed: int, layout: Layout = LAYOUTS["own"]
) -> tuple[dict[Path, str], dict[str, tuple[int, int]]]:
    """Files of captions, ids and the mapping to image files, and the number of images and captions of each split.

    Args:
        described: the captions.
        out: the data set's folder.
        seed: assigns images without a split.
        layout: how the data set is read.

    Raises:
        VSEError: if a split is unknown or empty, or captions would change that have features already.
    """
    counts, texts = {}, {}
    for name, images in by_split(described, seed).items():
        split = layout.test if name == "test" else name
        own = [one for captions in images.values() for one in captions]
        texts[out / "precomp" / f"{split}_caps.txt"] = "\n".join(one.caption for one in own) + "\n"
        texts[out / "precomp" / f"{split}_ids.txt"] = "\n".join(one.image_id for one in own) + "\n"
        counts[split] = len(images), len(own)
    for path, text in texts.items():
        features = path.with_name(f"{path.name.partition('_')[0]}_ims.npy")
        if features.exists() and path.exists() and path.read_text(encoding="utf-8") != text:
            raise VSEError(f"{path}: belongs to the features beside it, and would change; name a new folder")
    texts[out / "id_mapping.json"] = json.dumps({one.image_id: one.file for one in described}, indent=0) + "\n"
    return texts, counts


def write_images(images: Images, files: set[str], folder: Path) -> None:
    """Write the image files that captions name.

    Args:
        images: gives names and contents; an image may come again.
        files: names that captions have.
        folder: the data set's image folder, which is made as a whole. If it is there, it must hold the same images.

    Raises:
        VSEError: if a name points outside the folder, two images have one name, one is missing, or the folder holds
            others.
    """
    if folder.exists() and any(folder.iterdir()):
        for name, content in each_once(images, files):
            if not (folder / name).is_file() or (folder / name).read_bytes() != content:
                raise VSEError(f"{folder}: is there and holds no such {name}; name a new folder")
        return
    with whole_folder(folder) as part, progress_bar("images", total=len(files)) as progress:
        for name, content in each_once(images, files):
            advance(progress)
            (part / name).parent.mkdir(parents=True, exist_ok=True)
            (part / name).write_bytes(content)


def each_once(images: Images, files: set[str]) -> Iterator[tuple[str, bytes]]:
    """The images that captions name, each checked to be one.

    Args:
        images: gives names and contents; an image may come again.
        files: names that captions have.

    Raises:
        VSEError: if a name points outside the folder, two images have one name, or one is missing.
    """
    found: dict[str, tuple[int, int]] = {}
    for name, content in images():
        if name not in files:
            continue
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise VSEError(f"image {name!r} lies outside the folder, expected a name inside it")
        known = len(content), zlib.crc32(content)
        if name not in found:
            found[name] = known
            yield name, content
        elif found[name] != known:
            raise VSEError(f"two images are called {name}, expected a name for each")
    if missing := sorted(files - found.keys()):
        raise VSEError(f"no image {name_some(missing)} in the source, though captions name it")


def link_images(source: Path, folder: Path) -> bool:
    """Make the image folder a link to the folder that holds the images; return whether it leads there now.

    Args:
        source: folder with the images.
        folder: the data set's image folder; one that is there stays.

    Raises:
        VSEError: if the link cannot be made.
    """
    if not folder.exists() and not folder.is_symlink():
        try:
            folder.symlink_to(source.resolve(), target_is_directory=True)
        except OSError as error:
            raise VSEError(f"{folder}: no link to {source} can be made ({first_line(error)})") from error
    return folder.resolve() == source.resolve()
