"""Conditions in SQL against plain loops over the rows, and what is refused."""

import operator
from collections.abc import Callable
from datetime import datetime
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
import pytest

from tests.helpers.photo_rows import photo_rows, photo_table
from vse_gpo.errors import VSEError
from vse_gpo.search.expressions import COLUMNS, checked_condition

ROWS = photo_rows()
Truth = Callable[[dict[str, Any]], bool | None]  # None: unknown, as in SQL
SIGNS = {
    "=": operator.eq, "<>": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge
}  # fmt: skip
PERIODS = {
    "2023": (datetime(2023, 1, 1), datetime(2024, 1, 1)),
    "2024-06": (datetime(2024, 6, 1), datetime(2024, 7, 1)),
    "2022-12-31": (datetime(2022, 12, 31), datetime(2023, 1, 1)),
    "'2023-01-01 00:00:01'": (datetime(2023, 1, 1, 0, 0, 1), datetime(2023, 1, 1, 0, 0, 2)),
}


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    return photo_table(tmp_path_factory.mktemp("rows") / "table", ROWS)


def found(table: Any, condition: str) -> list[str]:
    return table.to_table(columns=["file"], filter=checked_condition(condition))["file"].to_pylist()


def files(truth: Truth) -> list[str]:
    return [row["file"] for row in ROWS if truth(row) is True]


def known(column: str, test: Callable[[Any], bool]) -> Truth:
    return lambda row: None if row[column] is None else test(row[column])


def inverted(truth: Truth) -> Truth:
    return lambda row: None if (value := truth(row)) is None else not value


def joined(word: str, parts: list[Truth]) -> Truth:
    strong = word == "or"  # decides whatever the others are

    def truth(row: dict[str, Any]) -> bool | None:
        values = [part(row) for part in parts]
        return strong if strong in values else (None if None in values else not strong)

    return truth


def compared_with_period(sign: str, start: datetime, end: datetime) -> Truth:
    tests = {
        "=": lambda date: start <= date < end,
        "<>": lambda date: not start <= date < end,
        "<": lambda date: date < start,
        "<=": lambda date: date < end,
        ">": lambda date: date >= end,
        ">=": lambda date: date >= start,
    }
    return known("date", tests[sign])


def drawn(random: np.random.Generator, depth: int = 3) -> tuple[str, Truth]:
    """A condition and what it says."""
    if depth and random.random() < 0.7:
        if random.random() < 0.25:
            text, truth = drawn(random, depth - 1)
            return f"not ({text})", inverted(truth)
        word = str(random.choice(["and", "or"]))
        parts = [drawn(random, depth - 1) for _ in range(random.integers(2, 4))]
        return f" {word.upper()} ".join(f"({text})" for text, _ in parts), joined(word, [truth for _, truth in parts])
    sign = str(random.choice([*SIGNS]))
    match random.integers(7):
        case 0:
            period = str(random.choice([*PERIODS]))
            return f"date {sign} {period}", compared_with_period(sign, *PERIODS[period])
        case 1:
            column = str(random.choice(["bytes", "width", "height", "latitude", "longitude"]))
            value = ROWS[random.integers(len(ROWS))][column] or 0
            return f"{column} {sign} {value!r}", known(column, lambda own: SIGNS[sign](own, value))
        case 2:
            pattern = str(random.choice(["%iPhone%", "%IPHONE%", "Apple%", "NIKON D7_0", "%'%"]))
            shell = pattern.replace("%", "*").replace("_", "?")
            return f"camera like '{pattern.replace(chr(39), chr(39) * 2)}'", known(
                "camera", lambda own: fnmatchcase(own, shell)
            )
        case 3:
            column = str(random.choice(["date", "camera", "latitude", "width"]))
            return f"{column} is not null", lambda row: row[column] is not None
        case 4:
            return "width not in (640, 4032)", known("width", lambda own: own not in (640, 4032))
        case 5:
            return f"width / height {sign} 1.5", lambda row: SIGNS[sign](row["width"] / row["height"], 1.5)
        case _:
            start, end = PERIODS["2023"][0], PERIODS["2024-06"][1]
            return "date between 2023 and 2024-06", known("date", lambda own: start <= own < end)


@pytest.mark.parametrize("seed", range(3))
def test_conditions_say_what_a_plain_loop_says(seed, table):
    random = np.random.default_rng(seed)
    for _ in range(12):
        text, truth = drawn(random)
        if len(text) <= 1000:
            assert found(table, text) == files(truth), text


def year(row: dict[str, Any]) -> int:
    return row["date"].year if row["date"] else 0


def camera(row: dict[str, Any]) -> str:
    return row["camera"] or ""


@pytest.mark.parametrize(
    ("text", "truth"),
    [
        ("date >= 2023 and camera like '%iPhone%'", lambda row: year(row) >= 2023 and "iPhone" in camera(row)),
        ("2024 < date", lambda row: year(row) > 2024),
        (
            "DATE IN (2021, 2025-01) OR CAMERA IS NULL",
            lambda row: row["camera"] is None or year(row) == 2021 or (year(row) == 2025 and row["date"].month == 1),
        ),
        ("camera ilike 'apple iphone%'", lambda row: camera(row).startswith("Apple iPhone")),
        ("camera = 'O''Neill 100% _x'", lambda row: camera(row) == "O'Neill 100% _x"),
        ("-latitude > 3 * (2 + 1) - 1.5", lambda row: row["latitude"] is not None and -row["latitude"] > 7.5),
        ("not not width > height", lambda row: row["width"] > row["height"]),
        ("bytes != 3 and 1000 < bytes", lambda row: row["bytes"] > 1000),
    ],
)
def test_examples(text, truth, table):
    assert found(table, text) == files(truth)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("widht > 3", f"no column widht (did you mean width?), expected one of {', '.join(COLUMNS)}"),
        ("select 1", f"no column select, expected one of {', '.join(COLUMNS)}"),
        ("width in (select width)", f"no column select, expected one of {', '.join(COLUMNS)}"),
        ("lower(camera) = 'x'", "no column lower"),
        ("embedding is null", "no column embedding"),
        ("width = 1; drop table x", "'; drop table x' cannot be read; texts stand in single quotes"),
        ('camera = "x"', "'\"x\"' cannot be read; texts stand in single quotes"),
        ("camera = 'x", '"\'x" cannot be read'),
        ("camera || 'x' = 'y'", "\"|| 'x' = 'y'\" cannot be read"),
        ("width > 1 -- x", "no column x"),
        ("/* x */ width > 1", "expected a column or a value before '/'"),
        ("width > 1 width", "'width' is not expected there"),
        ("date", "date is a date, expected a condition"),
        ("width", "width is a number, expected a condition"),
        ("width and height > 1", "width is a number, expected a condition"),
        ("date >= 'x'", "date is a date and 'x' is a text, which cannot be compared"),
        ("camera > 3", "camera is a text and 3 is a number, which cannot be compared"),
        ("2023-06 = 2023-06", "2023-06 is a date and 2023-06 is a date, which cannot be compared"),
        ("2023-13 < date", "2023-13 is no date, expected a year such as 2023"),
        ("width like '4%'", "width is a number, expected a text"),
        ("camera + 1 > 2", "camera is a text, expected a number"),
        ("width between 1 and", "expected a column or a value before the end"),
        ("width not 3", "expected IN, LIKE, ILIKE or BETWEEN after NOT, found '3'"),
        ("width is 3", "expected NULL before '3'"),
        ("(width > 3", "expected ) before the end"),
        ("", "expected a column or a value before the end"),
        ("(" * 9 + "width > 3" + ")" * 9, "more than 8 parentheses in one another"),
        ("not " * 9 + "width > 3", "more than 8 parentheses in one another"),
        ("width > 3 " + "and width > 3 " * 100, "where= has 1,410 characters, expected at most 1,000"),
    ],
)  # fmt: skip
def test_what_is_no_condition_on_the_columns_is_refused(text, line):
    with pytest.raises(VSEError) as error:
        checked_condition(text)
    assert str(error.value).removeprefix("where=: ").startswith(line)
    assert "\n" not in str(error.value)


def test_the_deepest_condition_is_taken_by_the_table(table):
    for text in (
        "(" * 8 + "width > 640" + ")" * 8,
        "not " * 8 + "width > 640",
        "not (bytes = 1 or " * 4 + "width > 640" + ")" * 4,
    ):
        assert found(table, text) == files(lambda row: row["width"] > 640)
    many = " or ".join(f"bytes = {row['bytes']}" for row in ROWS[:50])
    assert found(table, many) == [row["file"] for row in ROWS[:50]]
