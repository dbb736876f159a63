"""Rows of an index's table as Arrow columns: what is kept of each image, and back."""

import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float, Int
from torch import Tensor

from vse_gpo.errors import VSEError
from vse_gpo.retrieval.similarity import check_directions
from vse_gpo.search.items import NUMBERS, ItemSets
from vse_gpo.search.pictures import EmbeddedImages, Photo
from vse_gpo.search.stored import Picture

try:
    import pyarrow as pa
except ImportError as error:
    raise VSEError("the search needs Lance, which is not installed; pip install 'vse_gpo[search]'") from error

Rows = Int[Tensor, " rows"]  # numbers of rows

FACTS: dict[str, Any] = {  # what is read of a file besides its pixels; null where it says nothing
    "width": pa.int32(),
    "height": pa.int32(),
    "date": pa.timestamp("us"),
    "camera": pa.string(),
    "latitude": pa.float64(),
    "longitude": pa.float64(),
    "hash": pa.string(),  # of the content
    "phash": pa.int64(),
    "thumbnail": pa.binary(),
}


def record_batch(images: EmbeddedImages) -> pa.RecordBatch:
    """Rows of some images; their columns are those that the documentation of the index lists.

    Args:
        images: with their embeddings.

    Raises:
        VSEError: if an embedding is NaN or zero.
    """
    check_directions("embedding of image", images.embeddings)
    matrix = np.ascontiguousarray(images.embeddings.numpy(), dtype=np.float32)
    facts = [_facts(photo) for photo in images.photos] or [{}] * len(images.pictures)
    columns = {
        "file": pa.array([picture.file for picture in images.pictures], pa.string()),
        "bytes": pa.array([picture.size for picture in images.pictures], pa.int64()),
        "modified": pa.array([picture.modified for picture in images.pictures], pa.int64()),
        **{name: pa.array([one.get(name) for one in facts], kind) for name, kind in FACTS.items()},
        "embedding": fixed_lists(matrix),
        "checksum": pa.array(checksums(matrix)),
    }
    if images.sets is not None:
        columns["items"] = items_column(images.sets)
    return pa.record_batch(columns)


def _facts(photo: Photo) -> dict[str, Any]:
    return photo.facts._asdict() | {"hash": photo.hash, "phash": photo.phash, "thumbnail": photo.thumbnail}


def pictures_of(table: pa.Table | pa.RecordBatch) -> list[Picture]:
    """The images of some rows.

    Args:
        table: with the columns that tell a file: ``file``, ``bytes``, ``modified``.
    """
    columns = (table[name].to_pylist() for name in ("file", "bytes", "modified"))
    return [Picture(*row) for row in zip(*columns, strict=True)]


def fixed_lists(matrix: npt.NDArray[Any]) -> pa.FixedSizeListArray:
    """A column that holds a list of numbers in each row.

    Args:
        matrix: a row of each.
    """
    return pa.FixedSizeListArray.from_arrays(pa.array(np.ascontiguousarray(matrix).reshape(-1)), matrix.shape[1])


def matrix_of(column: pa.Array | pa.ChunkedArray) -> npt.NDArray[Any]:
    """The numbers of a column of lists, a row of each, which may be written to.

    Args:
        column: as ``fixed_lists`` makes it.

    Raises:
        ValueError: if it holds something else.
    """
    whole = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if not isinstance(whole, pa.FixedSizeListArray) or whole.null_count:
        raise ValueError(f"a column of {whole.type}, expected lists of numbers")
    return whole.flatten().to_numpy(zero_copy_only=False).reshape(len(whole), whole.type.list_size).copy()


def width_of(schema: pa.Schema) -> int:
    """Width of the embeddings of a table.

    Args:
        schema: of the table.

    Raises:
        ValueError: if it is the table of something else.
    """
    kinds = {"file": pa.string(), **dict.fromkeys(("bytes", "modified", "checksum"), pa.int64())} | FACTS
    found = {field.name: field.type for field in schema}
    embedding = found.get("embedding")
    if any(found.get(name) != kind for name, kind in kinds.items()) or not (
        isinstance(embedding, pa.FixedSizeListType) and embedding.value_type == pa.float32()
    ):
        raise ValueError(f"columns of another kind: {', '.join(found)}")
    return int(embedding.list_size)


# checksums: Lance has none, and returns what it reads


def checksums(matrix: Float[np.ndarray, "rows dim"]) -> Int[np.ndarray, " rows"]:
    """CRC-32 of each embedding, which any flipped bit changes: 2 kB take 0.9 µs.

    Args:
        matrix: float32, its rows one behind the other in memory.
    """
    return np.fromiter(map(zlib.crc32, matrix), np.int64, len(matrix))


def checked_matrix(rows: pa.Table | pa.RecordBatch) -> Float[Tensor, "rows dim"]:
    """The embeddings of some rows.

    Args:
        rows: with the columns ``embedding`` and ``checksum``.

    Raises:
        ValueError: if one has changed since it was written.
    """
    matrix = matrix_of(rows["embedding"])
    if not np.array_equal(checksums(matrix), rows["checksum"].to_numpy()):
        raise ValueError("embeddings have changed on the disk")
    return torch.from_numpy(matrix)


# sets of items: a struct of lists, so that any program reads them


def items_column(sets: ItemSets) -> pa.StructArray:
    """Sets of items as a column; the checksum covers all that a set holds.

    Args:
        sets: of some images.
    """
    parts = {name: part.flatten(1).numpy() for name, part in sets._asdict().items()}
    columns = {name: fixed_lists(part) for name, part in parts.items()}
    columns["checksum"] = pa.array(_checksums_of_sets(list(parts.values())))
    return pa.StructArray.from_arrays(list(columns.values()), list(columns))


def sets_of(rows: pa.Table, width: int) -> ItemSets:
    """The sets of items of some rows.

    Args:
        rows: with the column ``items``.
        width: of an item, which is that of an embedding.

    Raises:
        ValueError: if they are of another kind, or have changed since they were written.
    """
    column = rows["items"].combine_chunks()
    if not isinstance(column, pa.StructArray) or column.null_count:
        raise ValueError(f"sets of items of another kind, {column.type}")
    values, scales, owners = parts = [matrix_of(column.field(name)) for name in ItemSets._fields]
    kinds = str(values.dtype) in NUMBERS and scales.dtype == np.float32 and owners.dtype in (np.uint8, np.int16)
    if not kinds or values.shape[1] != scales.shape[1] * width:
        raise ValueError(f"sets of items of another kind, {column.type}")
    if not np.array_equal(_checksums_of_sets(parts), column.field("checksum").to_numpy()):
        raise ValueError("sets of items have changed on the disk")
    merged = torch.from_numpy(values).unflatten(1, (scales.shape[1], width))
    return ItemSets(merged, torch.from_numpy(scales), torch.from_numpy(owners))


def _checksums_of_sets(parts: Sequence[npt.NDArray[Any]]) -> Int[np.ndarray, " rows"]:
    values, scales, owners = parts
    found = map(zlib.crc32, owners, map(zlib.crc32, scales, map(zlib.crc32, values)))
    return np.fromiter(found, np.int64, len(values))
