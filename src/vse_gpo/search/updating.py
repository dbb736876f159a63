"""What an update keeps, takes over and embeds: files are recognised by their content, and every step is resumed."""

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Generic, NamedTuple, Protocol, TypeVar

import pyarrow as pa

from vse_gpo.data.encoding import Encoding
from vse_gpo.data.progress import advance, progress_bar
from vse_gpo.model import VSE
from vse_gpo.search.fingerprints import content_hash
from vse_gpo.search.items import Compaction
from vse_gpo.search.pictures import Reasons, embed_pictures
from vse_gpo.search.records import pictures_of, record_batch
from vse_gpo.search.stored import Picture
from vse_gpo.search.writer import TableWriter

SAVE_EVERY = 20.0  # seconds: the most that a killed command loses
LOG = "indexing.log"  # in the folder of the index
HELD = 2**28  # bytes of rows in memory that are not yet saved
COPIED = 4096  # rows that are taken over at once

About = Mapping[str, str]
Part = TypeVar("Part")


class Engine(Protocol):
    """Appends the embeddings of new images; see ``embed_new``."""

    def __call__(
        self,
        model: VSE,
        folder: Path,
        pictures: Sequence[Picture],
        table: TableWriter,
        encoding: Encoding,
        compaction: Compaction | None,
        about: About,
    ) -> Reasons: ...


class Known(NamedTuple):
    """Rows of a table that are there before an update."""

    rows: dict[Picture, int]  # place of each
    hashes: dict[str, int]  # content → place of a row of it
    sizes: set[int]  # bytes


class Changes(NamedTuple):
    """How the images of an index differ from before, in files."""

    new: int
    changed: int
    renamed: int
    removed: int

    def __str__(self) -> str:
        return ", ".join(f"{count} {name}" for name, count in self._asdict().items())


def known_rows(table: TableWriter) -> Known:
    """The rows of a table by file and by content.

    Args:
        table: of the index.
    """
    found = table.read(["file", "bytes", "modified", "hash"])
    pictures, hashes = pictures_of(found), found["hash"].to_pylist()
    return Known(
        {picture: row for row, picture in enumerate(pictures)},
        {digest: row for row, digest in enumerate(hashes) if digest is not None},
        {picture.size for picture in pictures},
    )


def same_content(folder: Path, pictures: Sequence[Picture], known: Known) -> dict[Picture, int]:
    """Those of some files whose content a row already has, under another name or time; only files of a known size are
    read.

    Args:
        folder: of the images.
        pictures: files that have no row.
        known: rows.
    """
    asked = [picture for picture in pictures if picture.size in known.sizes]
    if not asked:
        return {}
    found = {}
    with progress_bar("known files", total=len(asked)) as progress:
        for picture in asked:
            row = known.hashes.get(_hash_of(folder / picture.file))
            if row is not None:
                found[picture] = row
            advance(progress)
    return found


def _hash_of(path: Path) -> str:
    """Hash of a file's content; none if it cannot be read, which is told when it is to be embedded."""
    try:
        with path.open("rb") as file:
            return content_hash(file)
    except OSError:
        return ""


def take_over(table: TableWriter, rows: Mapping[Picture, int], about: About) -> None:
    """Give files that have the content of a row a row of their own.

    Args:
        table: of the index.
        rows: file → place of the row.
        about: see ``TableWriter.append``.
    """
    pictures = [*rows]
    for first in range(0, len(pictures), COPIED):
        some = pictures[first : first + COPIED]
        copy = table.copied([rows[picture] for picture in some])
        for name, values in zip(("file", "bytes", "modified"), zip(*some, strict=True), strict=True):
            place = copy.schema.get_field_index(name)
            copy = copy.set_column(place, name, pa.array(values, copy.schema.field(name).type))
        table.append(copy, about)


def embed_new(
    model: VSE,
    folder: Path,
    pictures: Sequence[Picture],
    table: TableWriter,
    encoding: Encoding,
    compaction: Compaction | None,
    about: About,
) -> Reasons:
    """Append the embeddings of images; returns the files that could not be read, with the reason.

    Args:
        model: whose image encoder is used.
        folder: of the images.
        pictures: to embed.
        table: of the index.
        encoding: see ``embed_pictures``.
        compaction: how their items are stored.
        about: see ``TableWriter.append``.
    """
    skipped: Reasons = {}
    saving = Saving[pa.RecordBatch](
        table.folder, len(pictures), lambda rows: table.append(pa.Table.from_batches(rows), about)
    )
    with progress_bar("images", total=len(pictures)) as progress:
        for batch in embed_pictures(model, folder, pictures, encoding, compaction):
            skipped |= batch.skipped
            rows = [record_batch(batch)] if batch.pictures else []
            images = len(batch.pictures) + len(batch.skipped)
            saving.add(rows, images=images, size=sum(some.nbytes for some in rows))
            advance(progress, images)
    saving.save()
    return skipped


class Saving(Generic[Part]):
    """Parts of a table that are ready: they are saved every 20 seconds or 256 MB, with a line in the log.

    Args:
        folder: of the index.
        total: images that are to be embedded.
        save: commits parts.
    """

    def __init__(self, folder: Path, total: int, save: Callable[[list[Part]], None]) -> None:
        self.folder = folder
        self.total = total
        self._commit = save
        self._waiting: list[Part] = []
        self._done = self._held = 0
        self._start = self._saved = time.monotonic()

    def add(self, parts: Sequence[Part], *, images: int, size: int = 0) -> None:
        """Take some parts, and save all that wait if it is time.

        Args:
            parts: that are ready.
            images: that were read for them.
            size: bytes in memory.
        """
        self._waiting += parts
        self._done += images
        self._held += size
        if time.monotonic() - self._saved > SAVE_EVERY or self._held > HELD:
            self.save()

    def save(self) -> None:
        """Save all that wait."""
        if self._waiting:
            self._commit(self._waiting)
            self._waiting, self._held, self._saved = [], 0, time.monotonic()
            write_line(self.folder, pace(self._done, self.total, self._saved - self._start))


def write_line(folder: Path, line: str) -> None:
    """Append a line, with the time, to the log of an index.

    Args:
        folder: of the index.
        line: for the log.
    """
    with suppress(OSError), (folder / LOG).open("a", encoding="utf-8") as file:  # of a full disk
        file.write(f"{datetime.now():%Y-%m-%d %H:%M:%S} {line}\n")


def pace(done: int, total: int, seconds: float) -> str:
    """A line about the progress: 4,096 of 50,000 images, 410 a second, 1:52 left.

    Args:
        done: images that are ready.
        total: all images.
        seconds: since the first.
    """
    rate = done / max(seconds, 1e-3)
    left = round((total - done) / max(rate, 1e-3))
    minutes, rest = divmod(left, 60)
    return f"{done:,} of {total:,} images, {rate:,.3g} a second, {minutes}:{rest:02} left"


def remove_others(table: TableWriter, pictures: Sequence[Picture]) -> None:
    """Remove all rows but one of each image.

    Args:
        table: of the index.
        pictures: images that are to have a row.
    """
    found = table.read(["file", "bytes", "modified", "_rowid"])
    ids = found["_rowid"].to_pylist()
    last = dict(zip(pictures_of(found), ids, strict=True))
    kept = {last[picture] for picture in pictures if picture in last}
    table.remove([one for one in ids if one not in kept])


def changes_of(before: Mapping[str, str], after: Mapping[str, str]) -> Changes:
    """How the files of an index have changed: a file that is gone and whose content has a new name was renamed.

    Args:
        before, after: file → hash of its content.
    """
    gone = Counter(digest for file, digest in before.items() if file not in after)
    added = Counter(digest for file, digest in after.items() if file not in before)
    renamed = (gone & added).total()
    changed = sum(before.get(file, digest) != digest for file, digest in after.items())
    removed = sum(file not in after for file in before)
    return Changes(added.total() - renamed, changed, renamed, removed - renamed)
