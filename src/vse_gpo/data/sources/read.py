"""Any source → its captions and images; what kind it is, its content tells."""

from collections.abc import Iterator
from pathlib import Path, PurePath, PurePosixPath

from vse_gpo.data.caption_lists import CaptionList, Found, SourcePart, checked_captions
from vse_gpo.data.files import read_text
from vse_gpo.data.shards.places import expand
from vse_gpo.data.sources.columns import Wanted
from vse_gpo.data.sources.folders import caption_files, read_texts, split_in_name
from vse_gpo.data.sources.json_lists import read_json_list
from vse_gpo.data.sources.parquet import MAGIC, read_parquet
from vse_gpo.data.sources.tables import TOKEN, read_table, read_token
from vse_gpo.data.sources.tars import BLOCK, is_tar, read_tar
from vse_gpo.errors import VSEError

GUESS = Wanted()


def read_captions(source: str | Path, wanted: Wanted = GUESS) -> CaptionList:
    """Captions of a file or folder, with the images that it holds.

    Args:
        source: a table, JSON of several forms, Flickr's token file, Parquet or tar; a folder with such files or a text
            file beside each image; or several files as ``name-{000..009}.tar`` or ``name-*.tar``.
        wanted: names of the columns.

    Raises:
        VSEError: if it cannot be read, a caption would change, or one image id stands for two files.
    """
    place, notes = Path(source).expanduser(), list[str]()
    if place.is_dir():
        paths, folder = caption_files(place), place
        named = [(path, read_part(path, wanted, notes)) for path in paths] or [(place, read_texts(place, notes))]
    else:
        names = [str(place)] if place.exists() else expand(str(place))
        paths = [path for name in names for path in _named_files(Path(name))]
        folder = place.parent
        named = [(path, read_part(path, wanted, notes)) for path in paths]
    found = (one for path, part in named for one in _placed(part, path, folder, several=len(named) > 1))
    described = checked_captions(found, str(place), notes)
    holders = [part.images for _, part in named if part.images is not None]
    layouts = {part.layout for _, part in named}
    return CaptionList(
        described,
        notes,
        list(dict.fromkeys(f"read as {part.told}" for _, part in named)),
        (lambda: (image for give in holders for image in give())) if holders else None,
        image_folder(folder, described[0].file),
        layouts.pop() if len(layouts) == 1 else "own",
    )


def _named_files(path: Path) -> list[Path]:
    """The files that a name with stars stands for; else, or if there are none, the name itself."""
    if path.exists() or not path.parent.is_dir():
        return [path]
    return sorted(path.parent.glob(path.name)) or [path]


def read_part(path: Path, wanted: Wanted, notes: list[str]) -> SourcePart:
    """Captions and images of one file.

    Args:
        path: of the file.
        wanted: names of the columns.
        notes: takes what is left out.

    Raises:
        VSEError: if it cannot be read.
    """
    try:
        with path.open("rb") as file:
            head = file.read(BLOCK)
        if head.startswith(MAGIC):
            return read_parquet(path, wanted, notes)
        if is_tar(head):
            return read_tar(path, wanted, notes)
        if head.startswith(b"PK\x03\x04"):
            raise VSEError(f"{path}: a zip archive; unpack it, and name what holds the captions")
        text = read_text(path)
    except OSError as error:
        raise VSEError(f"{path}: cannot be read ({(error.strerror or str(error)).lower()})") from error
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if text.lstrip().startswith(("{", "[")):
        return read_json_list(text, path, wanted, notes)
    if TOKEN.match(text):
        return read_token(text, path)
    return read_table(text, path, wanted, notes)


def _placed(part: SourcePart, path: Path, folder: Path, *, several: bool) -> Found:
    """Captions of one file: of several, its name may tell the split; names of images begin where the file lies."""
    split = split_in_name(path, folder) if several else ""
    inside = path.parent.relative_to(folder) if path.is_relative_to(folder) and path != folder else Path()
    moved = part.images is None and inside != Path()
    for place, one in part.found:
        file, image_id = one.file, one.image_id
        if moved and isinstance(file, str) and file:
            file = str(PurePosixPath(inside, file))
            image_id = file if image_id == one.file else image_id
        yield (
            f"{path.name}: {place}" if several else place,
            one._replace(split=one.split or split, file=file, image_id=image_id),
        )


def image_folder(folder: Path, file: str) -> Path | None:
    """The folder, or a folder in it, that an image file lies in by its name; None if there is none."""
    if PurePath(file).is_absolute() or ".." in PurePath(file).parts or not folder.is_dir():
        return None
    inside: Iterator[Path] = (place for place in sorted(folder.iterdir()) if place.is_dir())
    return next((place for place in (folder, *inside) if (place / file).is_file()), None)
