"""Data sets of the Hugging Face hub, and Parquet files of the same form: a row holds an image and its captions."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets.exceptions import DatasetsError
from fsspec.exceptions import FSTimeoutError
from huggingface_hub.errors import HfHubHTTPError

from vse_gpo.data.decoding import RGB, image_from, jpeg_decoder
from vse_gpo.data.layout import SPLITS
from vse_gpo.data.packed import PackedTexts, TextPacker
from vse_gpo.data.sources.columns import KNOWN, folded
from vse_gpo.data.split import SHOWN, ImageReadError, Split, warn_left_out
from vse_gpo.errors import VSEError, first_line

COLUMNS = {  # what a column is called, where no setting says it; images are bytes here, and no names of files
    "image": ("image", "img", "jpg", "png", "webp"),
    "caption": KNOWN["caption"],
    "split": ("split",),
    "id": ("img_id", "image_id", "cocoid", "imgid", "id", "filename", "file_name", "__key__"),
}
AT_ONCE = 10_000  # rows whose captions are read together
UNREADABLE = (DatasetsError, pa.ArrowException, OSError, ValueError, HfHubHTTPError, FSTimeoutError)


class HubDataset:
    """A data set of the hub, or Parquet files, read through ``datasets``: it stays on disk, and is mapped into memory.

    A split is the hub's split of that name or, where there is a split column, the rows that name it; train, dev and
    test are known by other usual names too. Rows without an image or a caption are left out, counted and named.

    Args:
        source: a hub id, a folder, or Parquet files (``*`` stands for any part of their names).
        config: name of one of the data sets that the id or folder holds; None takes the only one.
        revision: branch, tag or commit on the hub, such as ``refs/convert/parquet``.
        image, caption, split, id: names of the columns with images, captions (a text or a list), names of splits and
            ids of the images; None finds them, and says so.
        cache: folder for what is downloaded and converted; None takes that of ``datasets``.
        upright: turn images as their camera says.
    """

    def __init__(
        self,
        *,
        source: str,
        config: str | None = None,
        revision: str | None = None,
        image: str | None = None,
        caption: str | None = None,
        split: str | None = None,
        id: str | None = None,
        cache: str | None = None,
        upright: bool = True,
    ) -> None:
        self.source = source
        self.config = config
        self.revision = revision
        self.columns = {"image": image, "caption": caption, "split": split, "id": id}
        self.cache = cache
        self.upright = upright
        self._tables: dict[str, Any] | None = None

    def split(self, name: str) -> Split:
        """Read one split.

        Raises:
            VSEError: if the source, a column or the split is missing or unreadable, or no row is left.
        """
        if self._tables is None:
            self._tables = self._loaded()
        table = self._rows({name, *(known for known, own in SPLITS.items() if own == name)})
        columns = self._found(table)
        return self._split(name, table, columns)

    def _loaded(self) -> dict[str, Any]:
        """The hub's splits by name, of Parquet files one called ``rows``."""
        place = Path(self.source).expanduser()
        is_file = self.source.endswith(".parquet")
        try:
            if is_file:
                files = {"rows": str(place)}
                return dict(datasets.load_dataset("parquet", data_files=files, cache_dir=self.cache))
            where = str(place) if place.is_dir() else self.source
            found = datasets.load_dataset(where, self.config, revision=self.revision, cache_dir=self.cache)
            return dict(found)
        except UNREADABLE as error:
            cause: BaseException = error
            while cause.__cause__ is not None:  # the first says only that something failed
                cause = cause.__cause__
            what = "Parquet files" if is_file else "a data set of the hub, a folder or Parquet files"
            raise VSEError(
                f"dataset.source={self.source}: {first_line(Exception(str(cause)))}; expected {what}"
            ) from error

    def _rows(self, called: set[str]) -> Any:
        """The rows of a split."""
        tables = self._tables or {}
        column = self._column("split", next(iter(tables.values())))
        if column is None:
            if chosen := [table for split, table in tables.items() if split in called]:
                return datasets.concatenate_datasets(chosen)
            raise VSEError(
                f"{self.source}: no split {' or '.join(sorted(called))}, it has {', '.join(sorted(tables))}; set "
                "the name as dataset.train_split, dev_split or test_split, or set dataset.split_column"
            )
        whole = datasets.concatenate_datasets(list(tables.values()))
        values = whole.data.column(column).combine_chunks()
        rows = np.flatnonzero(pc.is_in(values, pa.array(sorted(called), values.type)).to_numpy(zero_copy_only=False))
        if not len(rows):
            there = ", ".join(sorted(str(one) for one in pc.unique(values).to_pylist()))
            raise VSEError(f"{self.source}: no row of split {' or '.join(sorted(called))}, there are {there}")
        return whole.select(rows)

    def _column(self, kind: str, table: Any) -> str | None:
        """Name of a column; None if there is none, and none was named.

        Raises:
            VSEError: if the named one is missing.
        """
        given, names = self.columns[kind], table.column_names
        if given is not None and given not in names:
            raise VSEError(f"{self.source}: no column {given!r}, it has {', '.join(names)}; set dataset.{kind}_column")
        by_name = {folded(one): one for one in reversed(names)}
        return given or next((by_name[usual] for usual in COLUMNS[kind] if usual in by_name), None)

    def _found(self, table: Any) -> dict[str, str | None]:
        """Kind → name of each column, shown where one was not given."""
        found = {kind: self._column(kind, table) for kind in COLUMNS}
        for kind in ("image", "caption"):
            if found[kind] is None:
                names = ", ".join(table.column_names)
                raise VSEError(f"{self.source}: no column of {kind}s among {names}; set dataset.{kind}_column")
        if guessed := [f"{kind}s in {name!r}" for kind, name in found.items() if name and not self.columns[kind]]:
            sys.stderr.write(f"{self.source}: {', '.join(guessed)}\n")
        return found

    def _split(self, name: str, table: Any, columns: dict[str, str | None]) -> Split:
        bytes_of = _stored_images(table, str(columns["image"]), self.source)
        captions, counts = _captions(table, str(columns["caption"]), self.source)
        has_image = np.concatenate([_is_there(batch) for batch in bytes_of.with_format("arrow").iter(AT_ONCE)])
        kept = np.flatnonzero(has_image & (counts > 0))
        if len(kept) < len(counts):
            lost = np.setdiff1d(np.arange(len(counts)), kept)
            first = [f"row {row}: no {'caption' if has_image[row] else 'image'}" for row in lost[:SHOWN].tolist()]
            warn_left_out(f"{name}: {len(lost):,} of {len(counts):,} rows", first, len(lost))
            owners = np.repeat(np.arange(len(counts)), counts)
            captions = PackedTexts.of(captions[row] for row in np.flatnonzero(np.isin(owners, kept)).tolist())
        if not len(kept):
            raise VSEError(f"{self.source}: no row of {name} has an image and a caption")
        ids = [str(one) for one in table.select(kept)[columns["id"]]] if columns["id"] else [str(row) for row in kept]
        return Split(
            name=name,
            captions=captions,
            caption_to_image=np.repeat(np.arange(len(kept)), counts[kept]),
            image_ids=ids,
            images=HubImages(bytes_of.select(kept), ids, upright=self.upright),
        )


class HubImages:
    """Images in the rows of a table.

    Args:
        table: with one column, ``image``: bytes, or a structure that has them.
        ids: of the images.
        upright: turn images as their camera says.
    """

    def __init__(self, table: Any, ids: Sequence[str], *, upright: bool) -> None:
        self.table = table
        self.ids = ids
        self.upright = upright
        jpeg_decoder()

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, row: int) -> RGB:
        stored = self.table[row]["image"]
        try:
            return image_from(
                stored["bytes"] if isinstance(stored, dict) else stored, self.name(row), upright=self.upright
            )
        except VSEError as error:
            raise ImageReadError(str(error)) from None

    def name(self, row: int) -> str:
        return self.ids[row]


def _stored_images(table: Any, column: str, source: str) -> Any:
    """The column of images, undecoded, as a table of its own.

    Raises:
        VSEError: if it holds no images.
    """
    images = table.select_columns([column])
    images = images if column == "image" else images.rename_column(column, "image")
    feature = images.features["image"]
    if isinstance(feature, datasets.Image):
        return images.cast_column("image", datasets.Image(decode=False))
    is_bytes = isinstance(feature, dict) and "bytes" in feature
    if not is_bytes and getattr(feature, "dtype", None) not in ("binary", "large_binary"):
        raise VSEError(f"{source}: column {column!r} holds {feature}, expected images or their bytes")
    return images


def _is_there(batch: Any) -> Any:
    """Whether each row of a batch has an image's bytes; a path to another file is not followed."""
    stored = batch.column("image").combine_chunks()
    data = stored.field("bytes") if pa.types.is_struct(stored.type) else stored
    return pc.fill_null(pc.greater(pc.binary_length(data), 0), False).to_numpy(zero_copy_only=False)


def _captions(table: Any, column: str, source: str) -> tuple[PackedTexts, Any]:
    """All captions that are not blank, and their number in each row.

    Raises:
        VSEError: if the column holds something else.
    """
    packer, counts = TextPacker(), []
    for batch in table.select_columns([column]).with_format(None).iter(AT_ONCE):
        for texts in batch[column]:
            listed = [] if texts is None else [texts] if isinstance(texts, str) else texts
            if not isinstance(listed, list) or not all(text is None or isinstance(text, str) for text in listed):
                raise VSEError(
                    f"{source}: column {column!r} holds {type(texts).__name__}, expected a text or a list of texts"
                )
            lines = [line for text in listed if (line := " ".join((text or "").split()))]
            counts.append(len(lines))
            packer.add(PackedTexts.of(lines))
    return packer.packed(), np.array(counts, dtype=np.int64)
