"""Captions and images of any source as tar shards."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from vse_gpo.data.caption_lists import CaptionList, Described, Images
from vse_gpo.data.layout import by_split, each_once
from vse_gpo.data.shards.writing import StoredSample, write_shards
from vse_gpo.errors import VSEError
from vse_gpo.storage.writing import whole_folder


def write_splits(captions: CaptionList, out: Path, seed: int, per_shard: int) -> dict[str, tuple[int, int]]:
    """Write ``SPLIT-000000.tar`` and so on, images in the order of the source; all of them, or nothing.

    Args:
        captions: of a source whose images are there.
        out: new folder for the shards.
        seed: assigns images without a split.
        per_shard: samples in each.

    Returns:
        The number of images and captions of each split.

    Raises:
        VSEError: if an image is missing, the folder is not new, or a split is unknown or empty.
    """
    images, counts = captions.images or _in_folder(captions), {}
    with whole_folder(out) as part:
        for split, described in by_split(captions.described, seed).items():
            write_shards(_samples(list(described.values()), images), part, split, per_shard=per_shard)
            counts[split] = len(described), sum(map(len, described.values()))
    return counts


def _samples(described: Sequence[Sequence[Described]], images: Images) -> Iterator[StoredSample]:
    by_file: dict[str, list[Sequence[Described]]] = defaultdict(list)
    for own in described:
        by_file[own[0].file].append(own)
    for name, content in each_once(images, set(by_file)):
        for own in by_file[name]:
            kind = PurePosixPath(name).suffix.removeprefix(".").lower()
            yield StoredSample(own[0].image_id, content, kind, [one.caption for one in own])


def _in_folder(captions: CaptionList) -> Images:
    """The named image files.

    Raises:
        VSEError: if they were not found.
    """
    folder = captions.folder
    if folder is None:
        raise VSEError(f"to=shards needs the images, and {captions.described[0].file} was not found beside the source")
    return lambda: (
        (name, (folder / name).read_bytes()) for name in dict.fromkeys(one.file for one in captions.described)
    )
