"""Dates as people type them: a year, a month, a day or a time, each from its beginning to its end."""

import re
from datetime import datetime, timedelta
from typing import NamedTuple

from vse_gpo.errors import VSEError

WRITTEN = re.compile(r"(\d{4})(?:-(\d{2})(?:-(\d{2})(?:[ T](\d{2}):(\d{2})(?::(\d{2}))?)?)?)?")
EXPECTED = "expected a year such as 2023, a month 2023-06, a day 2023-06-05 or a time 2023-06-05 14:30"


class Period(NamedTuple):
    """A span of time."""

    start: datetime
    end: datetime  # the first moment after it


def read_period(text: str) -> Period | None:
    """The period that a text names; None if it names none.

    Args:
        text: see ``EXPECTED``.
    """
    found = WRITTEN.fullmatch(text.strip())
    if found is None:
        return None
    numbers = [int(part) for part in found.groups() if part is not None]
    year, month, day, hour, minute, second = [*numbers, *(1, 1, 0, 0, 0)[len(numbers) - 1 :]]
    try:
        start = datetime(year, month, day, hour, minute, second)
        if len(numbers) == 1:
            return Period(start, start.replace(year=year + 1))
        if len(numbers) == 2:
            return Period(start, start.replace(year=year + month // 12, month=month % 12 + 1))
        lengths = {3: timedelta(days=1), 5: timedelta(minutes=1), 6: timedelta(seconds=1)}
        return Period(start, start + lengths[len(numbers)])
    except (ValueError, OverflowError):
        return None


def period_of(setting: str, text: str) -> Period:
    """The period that a setting names.

    Args:
        setting: its name, for the message.
        text: its value.

    Raises:
        VSEError: if it names none.
    """
    found = read_period(text)
    if found is None:
        raise VSEError(f"{setting}={text}: not a date, {EXPECTED}")
    return found
