"""Captions and images in Parquet files: paths of images, or their bytes in the form of Hugging Face's data sets."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
from pyarrow import parquet

from vse_gpo.data.caption_lists import SourcePart
from vse_gpo.data.sources.columns import Wanted, described_records, find_columns
from vse_gpo.errors import VSEError, first_line

MAGIC = b"PAR1"
ROWS = 256  # read at once: with their images, some 50 MB
SUFFIXES = {b"\xff\xd8\xff": ".jpg", b"\x89PNG": ".png", b"GIF8": ".gif", b"RIFF": ".webp", b"BM": ".bmp"}


def read_parquet(path: Path, wanted: Wanted, notes: list[str]) -> SourcePart:
    """One file. An image is a path, bytes, or bytes with a path beside them, whose name the image file gets.

    Args:
        path: of the file.
        wanted: names of the columns.
        notes: takes what is left out.

    Raises:
        VSEError: if it cannot be read, or a column is missing.
    """
    with _readable(path):
        schema = parquet.read_schema(path)
    columns = find_columns(schema.names, wanted, path)
    kind = schema.field(columns.image).type
    has_bytes = pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0
    has_bytes = has_bytes or pa.types.is_binary(kind) or pa.types.is_large_binary(kind)
    name = _file_names(path) if has_bytes else lambda _, image: image
    # the bytes of images without a path tell the suffix of their names; else they are read when they are written
    has_path = pa.types.is_struct(kind) and kind.get_field_index("path") >= 0 and _paths_are_there(path, columns.image)
    read = f"{columns.image}.path" if has_bytes and has_path else columns.image
    others = [column for column in (columns.caption, columns.split) if column is not None]

    def records() -> Iterator[tuple[str, dict[str, Any]]]:
        for row, record in _rows(path, [read, *others]):
            yield f"{path.name} row {row + 1}", record | {columns.image: name(row, record[columns.image])}

    def images() -> Iterator[tuple[str, bytes]]:
        for row, record in _rows(path, [columns.image]):
            image = record[columns.image]
            if (content := _content(image)) is not None:
                yield name(row, image), content

    told = f"Parquet{' with images' if has_bytes else ''}: {columns}"
    return SourcePart(described_records(records(), columns, notes), told, images if has_bytes else None)


def _rows(path: Path, columns: list[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    with _readable(path), parquet.ParquetFile(path) as file:
        row = 0
        for batch in file.iter_batches(ROWS, columns=columns):
            for record in batch.to_pylist():
                yield row, record
                row += 1


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        raise VSEError(f"{path}: not a whole Parquet file ({first_line(error)}); fetch it again") from error


def _paths_are_there(path: Path, column: str) -> bool:
    return all((record[column] or {}).get("path") for _, record in _rows(path, [f"{column}.path"]))


def _file_names(source: Path) -> Callable[[int, Any], str]:
    """Names of image files: of their paths, else of the Parquet file and the row."""

    def name(row: int, image: Any) -> str:
        if isinstance(image, dict) and image.get("path"):
            return PurePosixPath(image["path"].replace("\\", "/")).name
        content = _content(image)
        if content is None:
            return ""
        suffix = next((suffix for magic, suffix in SUFFIXES.items() if content.startswith(magic)), ".jpg")
        return f"{source.stem}-{row:07d}{suffix}"

    return name


def _content(image: Any) -> bytes | None:
    """The bytes of an image, or of a record of bytes and path."""
    content: bytes | None = image.get("bytes") if isinstance(image, dict) else image
    return content
