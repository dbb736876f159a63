"""Dates as people type them."""

from datetime import datetime

import pytest

from vse_gpo.errors import VSEError
from vse_gpo.search.periods import Period, period_of, read_period


@pytest.mark.parametrize(
    ("text", "start", "end"),
    [
        ("2023", (2023, 1, 1), (2024, 1, 1)),
        ("2023-06", (2023, 6, 1), (2023, 7, 1)),
        ("2023-12", (2023, 12, 1), (2024, 1, 1)),
        ("2024-02-29", (2024, 2, 29), (2024, 3, 1)),
        ("2023-06-05 14:30", (2023, 6, 5, 14, 30), (2023, 6, 5, 14, 31)),
        (" 2023-06-05T14:30:59 ", (2023, 6, 5, 14, 30, 59), (2023, 6, 5, 14, 31)),
    ],
)
def test_a_date_lasts_from_its_beginning_to_its_end(text, start, end):
    assert read_period(text) == Period(datetime(*start), datetime(*end))


@pytest.mark.parametrize(
    "text", ["", "23", "0000", "9999", "2023-13", "2023-02-29", "2023-6", "2023-06-05 25:00", "June"]
)
def test_other_texts_name_no_date(text):
    assert read_period(text) is None
    with pytest.raises(VSEError, match=r"^after=.*: not a date, expected a year such as 2023, a month 2023-06, a day"):
        period_of("after", text)
