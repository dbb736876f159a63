"""Write samples as tar files that this package, WebDataset and img2dataset's readers take."""

import io
import json
import tarfile
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from vse_gpo.data.shards.samples import IMAGES
from vse_gpo.errors import VSEError
from vse_gpo.storage.writing import whole_file


class StoredSample(NamedTuple):
    """What is written of an image."""

    image_id: str
    image: bytes  # of its file
    kind: str  # of the file: jpg, jpeg, png or webp
    captions: Sequence[str]


def write_shards(samples: Iterable[StoredSample], folder: Path, name: str, *, per_shard: int = 1000) -> list[Path]:
    """Write ``NAME-000000.tar`` and so on; the same samples give the same bytes.

    A sample is ``NAME-NUMBER.jpg`` and ``NAME-NUMBER.json`` with its ``image_id`` and ``captions``.

    Args:
        samples: in order.
        folder: for the shards.
        name: begins the names of the files.
        per_shard: samples in each, but for the last.

    Returns:
        The files.

    Raises:
        VSEError: if there are shards of that name, a sample has an image of another kind or no caption, or they cannot
            be written.
    """
    if any(folder.glob(f"{name}-*.tar")):
        raise VSEError(f"{folder}: holds shards called {name}-… already; name a new folder")
    waiting = iter(samples)
    written: list[Path] = []
    while batch := list(islice(waiting, per_shard)):
        written.append(folder / f"{name}-{len(written):06d}.tar")
        with whole_file(written[-1]) as file, tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as tar:
            for number, sample in enumerate(batch, (len(written) - 1) * per_shard):
                _write_sample(tar, f"{name}-{number:09d}", sample)
    return written


def _write_sample(tar: tarfile.TarFile, key: str, sample: StoredSample) -> None:
    if sample.kind not in IMAGES or not sample.captions:
        raise VSEError(
            f"image {sample.image_id}: .{sample.kind} with {len(sample.captions)} captions, expected an image of "
            f"{', '.join(IMAGES)} and a caption"
        )
    text = json.dumps({"image_id": sample.image_id, "captions": list(sample.captions)}, ensure_ascii=False)
    for kind, data in ((sample.kind, sample.image), ("json", text.encode())):
        member = tarfile.TarInfo(f"{key}.{kind}")  # of the year 1970, of nobody: the same bytes for the same samples
        member.size = len(data)
        tar.addfile(member, io.BytesIO(data))
