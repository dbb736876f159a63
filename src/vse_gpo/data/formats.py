"""The formats of images that are read, and how they are told by their content."""

from io import BufferedIOBase

from PIL import Image

from vse_gpo.data import raw

try:
    import pillow_heif
except ImportError:
    pillow_heif = None
else:
    pillow_heif.register_heif_opener()

# EPS and PDF are left out: Pillow would start Ghostscript, whatever the file is called
Image.init()
# in the order in which they are tried: a RAW photo looks like a TIFF
FORMATS = [
    name
    for name in (raw.RAW, "AVIF", "BMP", "GIF", "HEIF", "ICO", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
    if name in Image.OPEN
]
HEIC_SUFFIXES = {".heic", ".heics", ".heif", ".heifs", ".hif"}
HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1")
BEGINNING = 16  # bytes by which a format is told


def image_suffixes() -> set[str]:
    """Suffixes of image files, in small letters; those of formats too that need a package to be read."""
    known = Image.registered_extensions().items()
    return HEIC_SUFFIXES | {suffix for suffix, name in known if name in (*FORMATS, "MPO")}


def begins_as_image(head: bytes) -> bool:
    """Whether a file may be an image by its first bytes; two letters are enough for some formats.

    Args:
        head: the first ``BEGINNING`` bytes.
    """
    accepts = (Image.OPEN[name][1] for name in FORMATS)
    return _is_heic(head) or any(accept is not None and accept(head) is True for accept in accepts)


def _is_heic(head: bytes) -> bool:
    return head[4:8] == b"ftyp" and head[8:12] in HEIC_BRANDS


def missing_reader(file: BufferedIOBase) -> str | None:
    """What must be installed before a file can be read; None if nothing is missing, or nothing would help.

    Args:
        file: left at its beginning.
    """
    head = file.read(BEGINNING)
    try:
        if pillow_heif is None and _is_heic(head):
            return "a HEIC photo, which needs pillow-heif (pip install 'vse_gpo[search]')"
        if not raw.can_read() and raw.begins_as_raw(head) and raw.is_raw(file):
            return "a RAW photo, which needs rawpy (pip install 'vse_gpo[raw]')"
    finally:
        file.seek(0)
    return None
