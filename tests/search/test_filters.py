"""Options against plain loops over the rows."""

import math
from datetime import datetime

import pytest

from tests.helpers.photo_rows import photo_rows, photo_table
from vse_gpo.errors import VSEError
from vse_gpo.search.filters import filter_sql, quoted_sql

ROWS = photo_rows()
VIENNA = (48.2082, 16.3738)


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    return photo_table(tmp_path_factory.mktemp("rows") / "table", ROWS)


def kilometres(row: dict, place: tuple[float, float]) -> float:
    """By unit vectors, another formula than that of the filter."""
    if row["latitude"] is None or row["longitude"] is None:
        return math.inf
    ends = [(math.radians(down), math.radians(across)) for down, across in ((row["latitude"], row["longitude"]), place)]
    vectors = [
        (math.cos(down) * math.cos(across), math.cos(down) * math.sin(across), math.sin(down)) for down, across in ends
    ]
    return 6371.0088 * 2 * math.asin(min(1, math.dist(*vectors) / 2))


def taken(row: dict) -> datetime:
    return row["date"] or datetime.min


@pytest.mark.parametrize(
    ("options", "meets"),
    [
        ({"after": "2023"}, lambda row: taken(row) >= datetime(2023, 1, 1)),
        ({"before": "2023-06"}, lambda row: row["date"] is not None and taken(row) < datetime(2023, 6, 1)),
        ({"after": "2023-02", "before": "2023-03"}, lambda row: (taken(row).year, taken(row).month) == (2023, 2)),
        ({"near": "48.2082,16.3738"}, lambda row: kilometres(row, VIENNA) <= 10),
        ({"near": "48.2082, 16.3738, 3.5"}, lambda row: kilometres(row, VIENNA) <= 3.5),
        ({"near": "-90,0,9000"}, lambda row: kilometres(row, (-90, 0)) <= 9000),
        ({"near": "10,179.9,5000"}, lambda row: kilometres(row, (10, 179.9)) <= 5000),
        ({"near": "0,0,20016"}, lambda row: row["latitude"] is not None),
        ({"camera": "IPHONE"}, lambda row: "iPhone" in (row["camera"] or "")),
        ({"camera": "% _"}, lambda row: "% _" in (row["camera"] or "")),
        ({"camera": "o'n"}, lambda row: "O'N" in (row["camera"] or "")),
        ({"folder": "2023"}, lambda row: row["file"].startswith("2023/")),
        ({"folder": "./2023/vienna/"}, lambda row: row["file"].startswith("2023/vienna/")),
        ({"folder": "it's"}, lambda row: row["file"].startswith("it's/")),
        ({"folder": "."}, lambda row: True),
        (
            {"where": "width > height or camera is null", "after": "2022", "folder": "2023", "camera": "apple"},
            lambda row: (
                (row["width"] > row["height"] or row["camera"] is None)
                and (taken(row).year >= 2022 and row["file"].startswith("2023/") and "Apple" in (row["camera"] or ""))
            ),
        ),
    ],
)
def test_options_say_what_a_plain_loop_says(options, meets, table):
    expected = [row["file"] for row in ROWS if meets(row)]
    assert table.to_table(columns=["file"], filter=filter_sql(**options))["file"].to_pylist() == expected
    assert expected or options.keys() == {"where", "after", "folder", "camera"}


def test_nothing_is_no_condition():
    assert filter_sql() is None


@pytest.mark.parametrize("text", ["'", "''", "a' or 'a' = 'a", "\\", "\\'", "%_", "ü🟢", "\n"])
def test_texts_are_quoted(text, table):
    assert table.count_rows(filter=f"file <> {quoted_sql(text)}") == len(ROWS)
    assert filter_sql(camera=text) is not None
    assert table.count_rows(filter=filter_sql(folder=f"{text}/x")) == 0


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"after": "June"}, "after=June: not a date, expected a year such as 2023"),
        ({"before": "2023-02-30"}, "before=2023-02-30: not a date"),
        ({"near": "Vienna"}, "near=Vienna, expected latitude,longitude or latitude,longitude,kilometres"),
        ({"near": "1,2,3,4"}, "near=1,2,3,4, expected latitude,longitude"),
        ({"near": "91,0"}, "near=91,0, expected a latitude of -90 to 90"),
        ({"near": "0,0,-1"}, "near=0,0,-1, expected a latitude"),
        ({"near": "nan,0"}, "near=nan,0, expected a latitude"),
        ({"folder": "../x"}, "folder=../x, expected a folder under the image folder"),
        ({"folder": "/x"}, "folder=/x, expected a folder under the image folder"),
        ({"where": "a = 1"}, "where=: no column a"),
    ],
)
def test_what_cannot_be_read_is_refused(options, line):
    with pytest.raises(VSEError) as error:
        filter_sql(**options)
    assert str(error.value).startswith(line)
