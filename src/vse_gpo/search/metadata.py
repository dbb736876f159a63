"""Facts of a photo besides its pixels: upright size, date, camera and place, from its header and EXIF."""

import math
import re
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from PIL import ExifTags, Image

from vse_gpo.data.decoding import seen_size

Tags = Mapping[int, Any]
# the moment of the exposure, then of the scan or the copy from film, then of the last change
DATES = (
    (ExifTags.Base.DateTimeOriginal, ExifTags.Base.SubsecTimeOriginal),
    (ExifTags.Base.DateTimeDigitized, ExifTags.Base.SubsecTimeDigitized),
    (ExifTags.Base.DateTime, ExifTags.Base.SubsecTime),
)
WRITTEN = re.compile(r"(\d{4})[:\-/.](\d{1,2})[:\-/.](\d{1,2})(?:[ T]+(\d{1,2}):(\d{1,2})(?::(\d{1,2}))?)?")


class Facts(NamedTuple):
    """What a photo says of itself; None where it says nothing, or nothing that makes sense."""

    width: int  # as it is seen
    height: int
    date: datetime | None  # by the clock of the place where it was taken; EXIF rarely knows the zone, so none is kept
    camera: str | None  # make and model, without repetition
    latitude: float | None  # degrees, north is positive
    longitude: float | None  # degrees, east is positive


def facts_of(image: Image.Image) -> Facts:
    """Facts of an image file that was opened; what is broken in its EXIF counts as absent.

    Args:
        image: not yet decoded.
    """
    width, height = seen_size(image)
    base = _or_nothing(image.getexif)
    details = _or_nothing(lambda: image.getexif().get_ifd(ExifTags.IFD.Exif))
    place = _or_nothing(lambda: image.getexif().get_ifd(ExifTags.IFD.GPSInfo))
    latitude, longitude = place_of(place)
    return Facts(width, height, date_of({**base, **details}), camera_of(base), latitude, longitude)


def _or_nothing(read: Callable[[], Tags]) -> Tags:
    """Tags; none if they cannot be read."""
    try:
        return {**read()}
    except Exception:  # Pillow raises what it likes on damaged ones
        return {}


def date_of(tags: Tags) -> datetime | None:
    """When a photo was taken, else digitised, else changed.

    Args:
        tags: of EXIF.
    """
    for tag, fraction in DATES:
        if (found := WRITTEN.match(_text(tags.get(tag)))) is None:
            continue
        year, month, day, hour, minute, second = (int(part or 0) for part in found.groups())
        try:
            date = datetime(year, month, day, hour, minute, second)
        except ValueError:  # 0000:00:00, or a month that there is not
            continue
        digits = _text(tags.get(fraction))
        return date + timedelta(seconds=float(f"0.{digits}")) if digits.isdecimal() and digits.isascii() else date
    return None


def camera_of(tags: Tags) -> str | None:
    """Make and model of a camera: ``Apple iPhone 13``; the model only, if it begins with a word of the make.

    Args:
        tags: of the first directory of EXIF.
    """
    make, model = _text(tags.get(ExifTags.Base.Make)), _text(tags.get(ExifTags.Base.Model))
    words = set(re.findall(r"\w+", make.lower()))
    named = re.match(r"\w+", model.lower())
    return (model if named and named[0] in words else f"{make} {model}".strip()) or None


def place_of(tags: Tags) -> tuple[float | None, float | None]:
    """Latitude and longitude in degrees; devices without a fix write 0 and 0, which counts as absent.

    Args:
        tags: of EXIF's GPS directory.
    """
    latitude = _degrees(tags.get(ExifTags.GPS.GPSLatitude), tags.get(ExifTags.GPS.GPSLatitudeRef), "NS", 90.0)
    longitude = _degrees(tags.get(ExifTags.GPS.GPSLongitude), tags.get(ExifTags.GPS.GPSLongitudeRef), "EW", 180.0)
    return (None, None) if latitude == longitude == 0 else (latitude, longitude)


def _degrees(parts: Any, side: Any, sides: str, most: float) -> float | None:
    """Degrees, minutes and seconds as one number; None if they are no angle or their side of the globe is not known."""
    letter = _text(side).upper()
    if not letter or letter not in sides:
        return None
    try:
        angle = sum(float(part) / 60**power for power, part in enumerate(parts))
    except (TypeError, ValueError, ArithmeticError):
        return None
    if not (math.isfinite(angle) and 0 <= angle <= most):
        return None
    return -angle if letter == sides[1] and angle else angle


def _text(value: Any) -> str:
    """A tag's text on one line, without the bytes that fill it up; nothing if it is none."""
    if isinstance(value, bytes):
        value = value.decode("utf-8", errors="replace")
    return " ".join(value.partition("\0")[0].split()) if isinstance(value, str) else ""
