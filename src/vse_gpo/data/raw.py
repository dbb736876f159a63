"""Cameras' RAW files as Pillow opens any other image: by LibRaw, if rawpy is installed."""

import io
from typing import Any

from PIL import ExifTags, Image, ImageFile

try:
    import rawpy
except ImportError:
    rawpy = None

RAW = "RAW"  # Pillow's name for the format
SUFFIXES = (
    ".3fr", ".arw", ".cr2", ".cr3", ".crw", ".dcr", ".dng", ".erf", ".fff", ".gpr", ".iiq", ".kdc", ".mef", ".mos",
    ".mrw", ".nef", ".nrw", ".orf", ".pef", ".raf", ".rw2", ".rwl", ".sr2", ".srf", ".srw", ".x3f",
)  # fmt: skip
TIFFS = (b"II*\0", b"MM\0*")  # how most RAW files begin, and every TIFF
OTHERS = (b"FUJIFILMCCD-RAW", b"IIRO", b"IIRS", b"MMOR", b"IIU\0", b"\0MRM", b"FOVb", b"II\x1a\0\0\0HEAPCCDR")
CANON = b"ftypcrx"  # from the fifth byte on
DNG_VERSION, REDUCED, PHOTOMETRIC = 50706, 254, 262  # tags of a TIFF
OF_A_SENSOR = {32803, 34892}  # photometric interpretations: pixels behind a colour filter, and linear ones
TURNS = {3: 3, 5: 8, 6: 6}  # LibRaw's flip → EXIF's orientation
ENOUGH = 512  # pixels: a preview whose longer side has fewer is not used


class RawPhoto(ImageFile.ImageFile):
    """A RAW file's preview, which the camera has developed; without a usable one half of the pixels, developed here.

    Until it is loaded the size is that of the photo.
    """

    format = RAW
    format_description = "RAW photo"

    def _open(self) -> None:
        file: Any = self.fp
        if not can_read() or not is_raw(file):
            raise SyntaxError("not a RAW photo")
        file.seek(0)
        data = file.read()
        try:
            self._raw = rawpy.imread(io.BytesIO(data))
        except rawpy.LibRawError as error:
            raise SyntaxError(str(error)) from None
        self._size, self._mode = (self._raw.sizes.width, self._raw.sizes.height), "RGB"
        self._preview = _preview(self._raw)
        self._tags = _tags(data, self._raw, self._preview)

    def getexif(self) -> Image.Exif:
        return self._tags

    def load(self) -> Any:
        if self._im is None:
            image = self._preview
            if image is None:
                image = Image.fromarray(self._raw.postprocess(half_size=True, use_camera_wb=True, user_flip=0))
            self._raw.close()
            self.im = image.convert("RGB").im
            self._size = image.size
        return super().load()


def can_read() -> bool:
    """Whether rawpy is installed."""
    return rawpy is not None


def begins_as_raw(head: bytes) -> bool:
    """Whether a file may be a RAW photo by its first bytes."""
    return head.startswith(TIFFS + OTHERS) or head[4:].startswith(CANON)


def is_raw(file: Any) -> bool:
    """Whether a file is a RAW photo; of TIFFs those with a sensor's pixels, or that begin with a reduced image.

    Args:
        file: an open binary file, read from its beginning.
    """
    file.seek(0)
    head = file.read(16)
    if not head.startswith(TIFFS) or head[8:10] == b"CR":
        return begins_as_raw(head)
    tags = Image.Exif()
    try:
        file.seek(0)
        tags.load_from_fp(file)
        return DNG_VERSION in tags or tags.get(PHOTOMETRIC) in OF_A_SENSOR or bool(tags.get(REDUCED, 0) & 1)
    except Exception:  # Pillow raises what it likes on a damaged one
        return False


def _preview(raw: Any) -> Image.Image | None:
    """The largest image that a camera put into its file; None if there is none, or it is small."""
    try:
        found = raw.extract_thumb()
    except rawpy.LibRawError:
        return None
    is_jpeg = found.format == rawpy.ThumbFormat.JPEG
    image = Image.open(io.BytesIO(found.data), formats=["JPEG"]) if is_jpeg else Image.fromarray(found.data)
    return image if max(image.size) >= min(ENOUGH, raw.sizes.width) else None


def _tags(data: bytes, raw: Any, preview: Image.Image | None) -> Image.Exif:
    """A RAW photo's EXIF: its own if it is a TIFF, or one but for the third and fourth byte; else its preview's."""
    tags = Image.Exif()
    try:
        if data[:2] in (b"II", b"MM") and not data.startswith(OTHERS[-1]):
            tags.load(next(head for head in TIFFS if head.startswith(data[:2])) + data[4:])
        elif preview is not None:
            tags = preview.getexif()
    except Exception:  # Pillow raises what it likes on damaged ones
        tags = Image.Exif()
    if not tags and raw.other.timestamp.timestamp() > 0:
        tags[ExifTags.Base.DateTime] = raw.other.timestamp.strftime("%Y:%m:%d %H:%M:%S")
    tags[ExifTags.Base.Orientation] = TURNS.get(raw.sizes.flip, 1)
    return tags


Image.register_open(RAW, RawPhoto, begins_as_raw)
Image.register_extensions(RAW, list(SUFFIXES))
