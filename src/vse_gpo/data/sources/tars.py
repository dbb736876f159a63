"""Captions and images in tars of WebDataset's form: files of one name, but for their suffixes, are a sample."""

import json
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from vse_gpo.data.caption_lists import SourcePart
from vse_gpo.data.formats import image_suffixes
from vse_gpo.data.sources.columns import Columns, Wanted, captions_in, described_records, guess_columns
from vse_gpo.errors import VSEError, first_line

TEXTS = (".txt", ".caption", ".captions", ".text")
BLOCK = 512


def is_tar(head: bytes) -> bool:
    """Whether a file may be a tar, packed or not, by its first block."""
    return head[257:262] == b"ustar" or head.startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ"))


def read_tar(path: Path, wanted: Wanted, notes: list[str]) -> SourcePart:
    """One tar; a text file has a caption a line, a JSON file one caption or a list of them.

    Args:
        path: of the file.
        wanted: names in the JSON files.
        notes: takes what is left out.

    Raises:
        VSEError: while its captions are read, if the tar is damaged, a sample has two images, or comes twice.
    """
    columns = Columns("image", "caption", "split")

    def records() -> Iterator[tuple[str, dict[str, Any]]]:
        keys: set[str] = set()
        for key, members in _samples(path):
            place = f"{path.name}: sample {key}"
            if key in keys:
                raise VSEError(f"{path}: sample {key} comes twice, expected each key once")
            keys.add(key)
            images = [member for member in members if _suffix(member) in image_suffixes()]
            if len(images) > 1:
                raise VSEError(f"{path}: sample {key} has two images, {images[0]} and {images[1]}, expected one")
            if not images:
                notes.append(f"{place}: no image, left out")
                continue
            yield place, {"image": images[0], **_caption_and_split(members, wanted, place)}

    def images() -> Iterator[tuple[str, bytes]]:
        with _readable(path) as tar:
            for member in tar:
                if member.isfile() and _suffix(member.name) in image_suffixes():
                    yield member.name, _content(tar, member)

    told = "a tar with an image and its captions in each sample"
    return SourcePart(described_records(records(), columns, notes), told, images)


def _caption_and_split(members: Mapping[str, bytes], wanted: Wanted, place: str) -> dict[str, Any]:
    """Captions of the text file or, if there is none, of the JSON file, which may name a split, too."""
    by_suffix = {_suffix(name): content for name, content in members.items()}
    found: dict[str, Any] = {}
    try:
        if ".json" in by_suffix:
            record = json.loads(by_suffix[".json"])
            names = guess_columns(list(record), wanted)
            found = {part: record[names[part]] for part in ("caption", "split") if part in names}
        if (text := next((by_suffix[suffix] for suffix in TEXTS if suffix in by_suffix), None)) is not None:
            found["caption"] = [line for line in text.decode("utf-8-sig").splitlines() if line.strip()]
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise VSEError(f"{place}: its caption cannot be read ({first_line(error)}), expected UTF-8 or JSON") from error
    return {**found, "caption": captions_in(found.get("caption"))}


def _samples(path: Path) -> Iterator[tuple[str, dict[str, bytes]]]:
    """Key and members of each sample; only texts are read, the content of others is empty."""
    key, members = "", dict[str, bytes]()
    with _readable(path) as tar:
        for member in tar:
            if not member.isfile():
                continue
            name = PurePosixPath(member.name)
            own = str(name.with_name(name.name.partition(".")[0]))
            if own != key and members:
                yield key, members
                members = {}
            key = own
            is_text = _suffix(member.name) in (*TEXTS, ".json")
            members[member.name] = _content(tar, member) if is_text else b""
    if members:
        yield key, members


def _suffix(name: str) -> str:
    """All that follows the first dot of a name, in small letters."""
    return "." + PurePosixPath(name).name.partition(".")[2].casefold()


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = tar.extractfile(member)
    content = file.read() if file is not None else b""
    if len(content) != member.size:
        raise VSEError(f"{member.name} is not whole in its tar; fetch the tar again")
    return content


@contextmanager
def _readable(path: Path) -> Iterator[tarfile.TarFile]:
    """The open tar; at the end of the reading it must have come to the tar's end."""
    try:
        with tarfile.open(path) as tar:
            yield tar
            file: Any = tar.fileobj
            file.seek(tar.offset)
            if file.read(BLOCK).strip(b"\0"):  # tarfile takes a damaged header for the end
                raise VSEError(f"{path}: damaged at byte {tar.offset:,}; fetch it again")
    except (tarfile.TarError, OSError, EOFError) as error:
        raise VSEError(f"{path}: not a whole tar ({first_line(error)}); fetch it again") from error
