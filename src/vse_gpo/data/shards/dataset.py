"""A data set in shards: its splits, in the order of the tars, and its images."""

import hashlib
import os
from array import array
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path, PurePosixPath

import numpy as np
import numpy.typing as npt

from vse_gpo.data.decoding import RGB, image_from, jpeg_decoder
from vse_gpo.data.orders import Turns
from vse_gpo.data.packed import PackedTexts, TextPacker
from vse_gpo.data.progress import advance, progress_bar
from vse_gpo.data.shards.index import IndexFiles, ShardIndex
from vse_gpo.data.shards.places import OpenShards, Shard, find_shards
from vse_gpo.data.split import SHOWN, ImageReadError, Split, warn_left_out
from vse_gpo.errors import VSEError


class ShardsDataset:
    """Tar files in the form of WebDataset, read in any order through an index of where each sample lies.

    The index is made at the first start, and kept beside each shard or, where that folder cannot be written, in the
    cache. Samples that cannot be used are left out, counted and named; see ``samples``.

    Args:
        sources: split → its shards: a path or URL, or several; ``{000..099}`` and ``*`` stand for many.
        decoded: splits whose images are all decoded when they are indexed, so that what cannot be is left out. In
            other splits, training takes another pair in the place of one that cannot be.
        at_once: shards that training draws from at a time, for spinning disks and object stores; None mixes all pairs.
        cache: folder for indices, and for copies of shards that do not lie on this machine; None takes the user's.
        upright: turn images as their camera says.
    """

    def __init__(
        self,
        *,
        sources: Mapping[str, str | Sequence[str] | None],
        decoded: Sequence[str],
        at_once: int | None = None,
        cache: str | None = None,
        upright: bool = True,
    ) -> None:
        self.sources = sources
        self.decoded = decoded
        self.at_once = at_once
        default = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "vse_gpo" / "shards"
        self.cache = (default if cache is None else Path(cache)).expanduser()
        self.upright = upright

    def split(self, name: str) -> Split:
        """Index one split.

        Raises:
            VSEError: if it has no shards, one is missing, truncated or no tar, or no sample is left.
        """
        source = self.sources.get(name)
        if not source:
            raise VSEError(f"dataset.{name}_shards must be set; add dataset.{name}_shards='{name}-{{000..099}}.tar'")
        shards = find_shards([source] if isinstance(source, str) else source)
        found = _Found()
        for index in self._indices(name, shards):
            found.add(index)
        found.tell_broken(name)
        if not found.sizes:
            raise VSEError(f"{name}: no sample in {shards[0].path} and {len(shards) - 1} more shards can be used")
        copies = self.cache / hashlib.sha256(" ".join(shard.path for shard in shards).encode()).hexdigest()[:16]
        kept = None if self.at_once is None else 2 * self.at_once  # the turn before may not be over everywhere
        names, counts = found.names.packed(), np.frombuffer(found.counts, dtype=np.int64)
        return Split(
            name=name,
            captions=found.captions.packed(),
            caption_to_image=np.repeat(np.arange(len(counts)), counts),
            image_ids=names,
            images=ShardImages(
                OpenShards(shards, copies, kept),
                offsets=np.frombuffer(found.offsets, dtype=np.int64),
                sizes=np.frombuffer(found.sizes, dtype=np.int64),
                ends=np.array(found.ends),
                names=names,
                upright=self.upright,
                read_ahead=self.at_once is not None,
            ),
            turns=None if self.at_once is None else Turns(np.array(found.bounds), self.at_once),
        )

    def _indices(self, name: str, shards: Sequence[Shard]) -> Iterator[ShardIndex]:
        """The index of each shard; a bar is shown from the first one on that has to be made."""
        with ExitStack() as shown:
            progress = None
            for number, (shard, stem) in enumerate(zip(shards, _stems([one.path for one in shards]), strict=True)):
                files = IndexFiles(shard, stem, self.cache, decode=name in self.decoded)
                index = files.kept()
                if index is None:
                    bar = progress_bar(f"indexing {name}", total=len(shards), done=number)
                    progress = progress or shown.enter_context(bar)
                    index = files.make()
                if progress is not None:
                    advance(progress)
                yield index


class _Found:
    """The indices of all shards behind each other."""

    def __init__(self) -> None:
        self.names, self.captions = TextPacker(), TextPacker()
        self.offsets, self.sizes, self.counts = (array("q") for _ in range(3))  # per image
        self.ends: list[int] = []  # row of the image after each shard's last
        self.bounds = [0]  # row of each shard's first caption, and their number
        self.broken: list[str] = []
        self.left_out = 0

    def add(self, index: ShardIndex) -> None:
        self.names.add(index.names)
        self.captions.add(index.captions)
        for name in ("offsets", "sizes", "counts"):
            getattr(self, name).frombytes(getattr(index, name).tobytes())
        self.ends.append(len(self.sizes))
        self.bounds.append(self.bounds[-1] + len(index.captions))
        self.broken += index.broken[: SHOWN - len(self.broken)]
        self.left_out += len(index.broken)

    def tell_broken(self, name: str) -> None:
        """Warn of the samples that were left out, if there are any."""
        if self.left_out:
            whole = self.left_out + len(self.sizes)
            warn_left_out(f"{name}: {self.left_out:,} of {whole:,} samples", self.broken, self.left_out)


class ShardImages:
    """The images of a split in shards.

    Args:
        files: the shards.
        offsets, sizes: of each image's bytes in its shard.
        ends: row of the image after each shard's last.
        names: of the images.
        upright: turn images as their camera says.
        read_ahead: read a shard as a whole when its first image is asked for.
    """

    def __init__(
        self,
        files: OpenShards,
        *,
        offsets: npt.NDArray[np.int64],
        sizes: npt.NDArray[np.int64],
        ends: npt.NDArray[np.int64],
        names: PackedTexts,
        upright: bool = True,
        read_ahead: bool = False,
    ) -> None:
        self.files = files
        self.offsets = offsets
        self.sizes = sizes
        self.ends = ends
        self.names = names
        self.upright = upright
        self.read_ahead = read_ahead
        jpeg_decoder()

    def __len__(self) -> int:
        return len(self.sizes)

    def __getitem__(self, row: int) -> RGB:
        data = self.data(row)
        try:
            return image_from(data, self.name(row), upright=self.upright)
        except VSEError as error:
            raise ImageReadError(str(error)) from None

    def data(self, row: int) -> bytes:
        """The bytes of an image, as they are stored."""
        shard = int(np.searchsorted(self.ends, row, side="right"))
        if self.read_ahead:
            self.files.read_ahead(shard)
        return self.files.read(shard, int(self.offsets[row]), int(self.sizes[row]))

    def name(self, row: int) -> str:
        return self.names[row]


def _stems(paths: Sequence[str]) -> list[str]:
    """What the names of each shard's samples begin with: its path below the folder of all, without .tar."""
    folder = os.path.commonpath([str(PurePosixPath(path).parent) for path in paths])
    return [str(PurePosixPath(path).relative_to(folder)).removesuffix(".tar") for path in paths]
