"""What a user says of the photos that are wanted → one SQL expression, which the table of an index takes."""

import math
from pathlib import PurePosixPath

from vse_gpo.errors import VSEError
from vse_gpo.search.expressions import checked_condition, moment
from vse_gpo.search.periods import period_of

EARTH = 6371.0088  # mean radius in kilometres
NEAR = 10.0  # kilometres, if none are given


def filter_sql(
    *,
    where: str | None = None,
    after: str | None = None,
    before: str | None = None,
    near: str | None = None,
    camera: str | None = None,
    folder: str | None = None,
) -> str | None:
    """One expression that is true for the photos that meet every condition; None if there is none.

    A photo of which nothing is known, for example no date, meets no condition on it.

    Args:
        where: a condition in SQL; see ``checked_condition``.
        after: a year, month, day or time; the photo was taken in it or later.
        before: the photo was taken before it began.
        near: ``latitude,longitude`` in degrees or ``latitude,longitude,kilometres``, 10 unless given: the photo was
            taken no farther from there.
        camera: part of the camera's name, in upper or lower case.
        folder: the photo lies in this folder under the image folder, or in one below it.

    Raises:
        VSEError: if one cannot be read.
    """
    conditions = []
    if where is not None:
        conditions.append(checked_condition(where))
    if after is not None:
        conditions.append(f"date >= {moment(period_of('after', after).start)}")
    if before is not None:
        conditions.append(f"date < {moment(period_of('before', before).start)}")
    if near is not None:
        conditions.append(near_sql(near))
    if camera is not None:
        conditions.append(f"contains(lower(camera), lower({quoted_sql(camera)}))")
    if folder is not None:
        place = PurePosixPath(folder)
        if place.is_absolute() or ".." in place.parts:
            raise VSEError(f"folder={folder}, expected a folder under the image folder, such as 2023/vienna")
        conditions.append(f"starts_with(file, {quoted_sql(f'{place}/')})" if place.parts else "true")
    return " AND ".join(conditions) or None


def quoted_sql(text: str) -> str:
    """A text as a literal of SQL."""
    return "'" + text.replace("'", "''") + "'"


def near_sql(near: str) -> str:
    """The places around one, by the haversine formula (Sinnott 1984).

    Args:
        near: see ``filter_sql``.

    Raises:
        VSEError: if it is no place.
    """
    try:
        numbers = [float(part) for part in near.split(",")]
        latitude, longitude, kilometres = [*numbers, NEAR] if len(numbers) == 2 else numbers
    except ValueError:
        raise VSEError(
            f"near={near}, expected latitude,longitude or latitude,longitude,kilometres, such as 48.21,16.37,5"
        ) from None
    if not (abs(latitude) <= 90 and abs(longitude) <= 180 and 0 <= kilometres < math.inf):
        raise VSEError(f"near={near}, expected a latitude of -90 to 90, a longitude of -180 to 180, and kilometres")
    if kilometres >= math.pi * EARTH:
        return "(latitude IS NOT NULL AND longitude IS NOT NULL)"
    across = f"power(sin(radians(longitude - ({longitude!r})) / 2), 2)"
    down = f"power(sin(radians(latitude - ({latitude!r})) / 2), 2)"
    cosines = f"{math.cos(math.radians(latitude))!r} * cos(radians(latitude))"
    return f"({down} + {cosines} * {across} <= {math.sin(kilometres / (2 * EARTH)) ** 2!r})"
