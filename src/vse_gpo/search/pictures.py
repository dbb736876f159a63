"""A folder of images → embeddings and items: images are found, and decoded while the model works."""

import os
import stat
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence, Set
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.data import Dataset

from vse_gpo.batch import ImageInputs
from vse_gpo.data.decoding import RGB, decoded, jpeg_decoder, opened_image, read_image
from vse_gpo.data.encoding import Encoding, ReadBatch, encode_items
from vse_gpo.data.formats import BEGINNING, begins_as_image, image_suffixes
from vse_gpo.data.images import PrepareImages
from vse_gpo.encoder import Encoder
from vse_gpo.errors import VSEError, first_line
from vse_gpo.model import VSE
from vse_gpo.search.fingerprints import content_hash, perceptual_hash, small_image, thumbnail_of
from vse_gpo.search.items import Compaction, ItemSets
from vse_gpo.search.metadata import Facts, facts_of
from vse_gpo.search.stored import Picture

Reasons = dict[str, str]  # why a file was skipped
SPECIAL = "not a regular file: a pipe, a socket or a device"
SHOWN_BY_BROWSERS = {"AVIF", "BMP", "GIF", "ICO", "JPEG", "MPO", "PNG", "WEBP"}


class Found(NamedTuple):
    """What a folder holds."""

    pictures: list[Picture]  # by name
    skipped: Reasons
    others: Counter[str]  # suffix → files that are not read as images


def find_pictures(folder: Path) -> Found:
    """Every image under a folder, told by its suffix, else by its first bytes; what is hidden is ignored.

    Only regular files are opened, and only those whose suffix is no image's: whether the others are images shows when
    they are read.

    Args:
        folder: of the images; linked folders in it are not entered.

    Raises:
        VSEError: if there is no such folder.
    """
    if not folder.is_dir():
        raise VSEError(f"images={folder}: no such folder")
    found, suffixes, waiting = Found([], {}, Counter()), image_suffixes(), [""]
    while waiting:
        place = waiting.pop()
        try:
            with os.scandir(folder / place) as entries:
                for entry in entries:
                    if entry.name.startswith("."):
                        continue
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(f"{place}{entry.name}/")
                    else:
                        _sort(entry, f"{place}{entry.name}", folder, suffixes, found)
        except OSError as error:
            found.skipped[place.removesuffix("/") or "."] = _reason(error)
    return found._replace(pictures=sorted(found.pictures))


def _sort(entry: os.DirEntry[str], file: str, folder: Path, suffixes: Set[str], found: Found) -> None:
    """Note what a file is."""
    suffix = os.path.splitext(entry.name)[1].lower()  # noqa: PTH122, paths take four times as long
    try:
        status = entry.stat()
        if entry.is_symlink() and not entry.is_file():
            found.skipped[file] = "a linked folder, which is not entered" if entry.is_dir() else SPECIAL
        elif not stat.S_ISREG(status.st_mode):
            found.skipped[file] = SPECIAL
        elif entry.is_symlink() and not Path(entry.path).resolve().is_relative_to(folder.resolve()):
            found.skipped[file] = f"a link that leads out of {folder}"
        elif suffix not in suffixes and not _is_image(entry.path):
            found.others[suffix or "without a suffix"] += 1
        elif not _is_unicode(file):
            found.skipped[file] = "its name is not UTF-8; rename it"
        else:
            found.pictures.append(Picture(file, status.st_size, status.st_mtime_ns))
    except OSError as error:
        found.skipped[file] = _reason(error)


def _is_image(path: str) -> bool:
    """Whether a file that is not named as an image is one all the same."""
    try:
        with open(path, "rb", buffering=0) as file:  # noqa: PTH123
            if not begins_as_image(file.read(BEGINNING)):
                return False
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's, about what is no image
            with opened_image(Path(path)):
                return True
    except (OSError, VSEError):
        return False


def _is_unicode(name: str) -> bool:
    """Whether a name can be stored as UTF-8: the bytes of others stand in it as halves of characters."""
    try:
        return name.isascii() or bool(name.encode())
    except UnicodeEncodeError:
        return False


def _reason(error: OSError) -> str:
    return (error.strerror or first_line(error)).lower()


class Photo(NamedTuple):
    """What is read of an image file besides the pixels that the model takes."""

    hash: str  # see ``content_hash``
    facts: Facts
    phash: int | None  # see ``perceptual_hash``
    thumbnail: bytes | None  # a JPEG; None for images that are not larger, whose file itself is shown


def read_photo(path: Path) -> tuple[RGB, Photo]:
    """Everything that an index keeps of an image file, which is read from the disk once.

    Args:
        path: of the file.

    Raises:
        VSEError: if it cannot be read.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's warnings about files that it could still read
        with opened_image(path) as (file, image):
            facts = facts_of(image)
            pixels = decoded(file, image)
            digest = content_hash(file)
    small = small_image(pixels)
    is_shown_itself = image.format in SHOWN_BY_BROWSERS and small is pixels
    return pixels, Photo(digest, facts, perceptual_hash(small), None if is_shown_itself else thumbnail_of(small))


class FilePixels(Dataset[tuple[int, Tensor | str, Photo | None]]):
    """Pixels of images as a model takes them, with what else is read; or the reason why an image cannot be read."""

    def __init__(self, folder: Path, pictures: Sequence[Picture], prepare: PrepareImages) -> None:
        self.folder, self.pictures, self.prepare = folder, pictures, prepare
        jpeg_decoder()

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, row: int) -> tuple[int, Tensor | str, Photo | None]:
        path = self.folder / self.pictures[row].file
        try:
            pixels, photo = read_photo(path)
        except VSEError as error:
            return row, str(error).removeprefix(f"{path}: ").partition(";")[0], None
        return row, self.prepare.encode(pixels), photo

    def collate(self, items: Sequence[tuple[int, Tensor | str, Photo | None]]) -> ReadBatch:
        """The readable images in one tensor, as each takes a file descriptor; reasons for the others."""
        read = {row: pixels for row, pixels, _ in items if isinstance(pixels, Tensor)}
        pixels = self.prepare.collate([*read.values()]) if read else torch.empty(0, 3, 0, 0, dtype=torch.uint8)
        skipped = {row: reason for row, reason, _ in items if isinstance(reason, str)}
        photos = [photo for _, _, photo in items if photo is not None]
        return ReadBatch(pixels, torch.tensor([*read], dtype=torch.long), skipped, photos)


def open_picture(path: Path, *, side: int | None = None) -> Tensor:
    """Pixels (3, H, W) of an image, rotated as its camera says.

    Args:
        path: image file.
        side: side of the square to fit the image into, in pixels; None keeps its size.

    Raises:
        VSEError: if the file cannot be read.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's warnings about files that it could still read
        return read_image(path, upright=True, side=side)


class EmbeddedImages(NamedTuple):
    """Results of a batch of images."""

    pictures: list[Picture]
    embeddings: Float[Tensor, "pictures dim"]
    skipped: Reasons
    sets: ItemSets | None = None
    photos: Sequence[Photo] = ()  # what else was read of each of the pictures


class StoredImages(NamedTuple):
    """What an index keeps of a batch of images."""

    embeddings: Float[Tensor, "batch dim"]
    sets: ItemSets | None


class ImageDescriber(nn.Module):
    """Images → what an index keeps of them.

    Args:
        encoder: of the images.
        compaction: how their items are stored; None keeps only embeddings.
    """

    def __init__(self, encoder: Encoder, compaction: Compaction | None) -> None:
        super().__init__()
        self.encoder = encoder
        self.compaction = compaction

    def forward(self, pixels: ImageInputs) -> StoredImages:
        found = self.encoder.output(pixels, with_items=self.compaction is not None)
        if self.compaction is None or found.items is None:
            return StoredImages(found.embeddings, None)
        return StoredImages(found.embeddings, self.compaction(found.items, self.encoder.backbone.whole_items))


def embed_pictures(
    model: VSE,
    folder: Path,
    pictures: Sequence[Picture],
    encoding: Encoding,
    compaction: Compaction | None = None,
) -> Iterator[EmbeddedImages]:
    """Unit embeddings of images, batch by batch, and their items.

    Args:
        model: whose image encoder is used.
        folder: of the images.
        pictures: images in it.
        encoding: how they are encoded.
        compaction: how the items are stored; None keeps none.

    Raises:
        VSEError: if the model does not take images.
    """
    prepare = model.prepare_images
    if not isinstance(prepare, PrepareImages):
        raise VSEError("the model takes region features, not images; an index needs a model with a grid backbone")
    files = FilePixels(folder, pictures, prepare)
    describer = ImageDescriber(model.image_encoder, compaction)
    for described, rows, skipped, photos in encode_items(describer, files, files.collate, encoding):
        reasons = {pictures[row].file: reason for row, reason in skipped.items()}
        if len(rows):
            yield EmbeddedImages(
                [pictures[row] for row in rows.tolist()], described.embeddings, reasons, described.sets, photos
            )
        else:
            yield EmbeddedImages([], described, reasons)
