"""What a photo says of itself: as cameras, phones and programs write it, and as they should not."""

import warnings
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import ExifTags, Image

from vse_gpo.data.decoding import opened_image
from vse_gpo.search.metadata import Facts, Tags, camera_of, date_of, facts_of, place_of

Base, GPS = ExifTags.Base, ExifTags.GPS
NO_TAGS: Tags = {}
NOTHING = Facts(8, 6, None, None, None, None)


def saved(path: Path, base: Tags, details: Tags = NO_TAGS, gps: Tags = NO_TAGS) -> Path:
    """An image of 8 × 6 with EXIF, in the format that the name asks for."""
    exif = Image.Exif()
    exif.update(base)
    exif[ExifTags.IFD.Exif] = {**details}
    exif[ExifTags.IFD.GPSInfo] = {**gps}
    Image.new("RGB", (8, 6)).save(path, exif=exif.tobytes())
    return path


def read(path: Path) -> Facts:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's, about broken EXIF
        with opened_image(path) as (_, image):
            return facts_of(image)


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
def test_a_phones_photo_tells_size_date_camera_and_place(suffix, tmp_path):
    base = {Base.Make: "Apple", Base.Model: "iPhone 13", Base.Orientation: 6, Base.DateTime: "2024:01:01 00:00:00"}
    details = {
        Base.DateTimeOriginal: "2023:07:14 18:05:09",
        Base.SubsecTimeOriginal: "25",
        Base.OffsetTimeOriginal: "+02:00",  # not needed: the date is by the clock of the place
    }
    gps = {
        GPS.GPSLatitudeRef: "S", GPS.GPSLatitude: (33.0, 51.0, 24.84),
        GPS.GPSLongitudeRef: "E", GPS.GPSLongitude: (151.0, 12.0, 54.36),
    }  # fmt: skip
    found = read(saved(tmp_path / f"a.{suffix}", base, details, gps))
    assert found[:4] == (6, 8, datetime(2023, 7, 14, 18, 5, 9, 250_000), "Apple iPhone 13")
    assert found[4:] == pytest.approx((-33.8569, 151.2151))


def test_an_image_without_exif_tells_only_its_size(tmp_path):
    for name in ("a.png", "a.gif", "a.bmp"):
        Image.new("L", (8, 6)).save(tmp_path / name)
        assert read(tmp_path / name) == NOTHING


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ({Base.DateTime: "2001:02:03 04:05:06"}, datetime(2001, 2, 3, 4, 5, 6)),
        ({Base.DateTimeDigitized: "2001-02-03T04:05:06+01:00"}, datetime(2001, 2, 3, 4, 5, 6)),
        ({Base.DateTimeOriginal: b"2001:02:03 04:05:06\0"}, datetime(2001, 2, 3, 4, 5, 6)),
        ({Base.DateTimeOriginal: "2001:02:03"}, datetime(2001, 2, 3)),
        ({Base.DateTimeOriginal: "2001:02:03 04:05"}, datetime(2001, 2, 3, 4, 5)),
        ({Base.DateTimeOriginal: "0000:00:00 00:00:00", Base.DateTime: "2001:02:03"}, datetime(2001, 2, 3)),
        ({Base.DateTimeOriginal: "2001:02:03 04:05:06", Base.SubsecTimeOriginal: "²"}, datetime(2001, 2, 3, 4, 5, 6)),
        ({Base.DateTimeOriginal: "    :  :     :  :  "}, None),
        ({Base.DateTimeOriginal: "2001:13:03 04:05:06"}, None),
        ({Base.DateTimeOriginal: "yesterday"}, None),
        ({Base.DateTimeOriginal: 20010203}, None),
        ({}, None),
    ],
)  # fmt: skip
def test_dates(tags, expected):
    assert date_of(tags) == expected


@pytest.mark.parametrize(
    ("make", "model", "expected"),
    [
        ("NIKON CORPORATION", "NIKON D90", "NIKON D90"),
        ("Canon", "Canon EOS 5D Mark IV", "Canon EOS 5D Mark IV"),
        ("EASTMAN KODAK COMPANY", "KODAK EASYSHARE C813", "KODAK EASYSHARE C813"),
        ("LG Electronics", "LG-H870", "LG-H870"),
        ("samsung", "SM-G991B", "samsung SM-G991B"),
        ("Apple", "", "Apple"),
        ("", "  DSC  \0\0rest", "DSC"),
        (b"SONY\0", "\0", "SONY"),
        (7, None, None),
    ],
)
def test_a_camera_is_named_once(make, model, expected):
    assert camera_of({Base.Make: make, Base.Model: model}) == expected


@pytest.mark.parametrize(
    ("parts", "side", "expected"),
    [
        ((48, 51, 29.6), "N", 48.858222),
        ((48.858222,), "S", -48.858222),
        ((48, 51.49333), b"n\0", 48.858222),
        ((90, 0, 0.1), "N", None),
        ((-48, 0, 0), "N", None),
        ((float("nan"), 0, 0), "N", None),
        ((48, 51, 29), None, None),
        ((48, 51, 29), "E", None),
        (48.8, "N", None),
        (None, "N", None),
    ],
)
def test_places(parts, side, expected):
    latitude, longitude = place_of({GPS.GPSLatitude: parts, GPS.GPSLatitudeRef: side})
    assert longitude is None
    assert latitude == (None if expected is None else pytest.approx(expected, abs=1e-5))


def test_a_device_without_a_fix_has_no_place():
    tags = {GPS.GPSLatitude: (0, 0, 0), GPS.GPSLongitude: (0, 0, 0)}
    assert place_of(tags | {GPS.GPSLatitudeRef: "N", GPS.GPSLongitudeRef: "W"}) == (None, None)
    equator = tags | {GPS.GPSLatitudeRef: "N", GPS.GPSLongitudeRef: "W", GPS.GPSLongitude: (78, 30, 0)}
    assert place_of(equator) == (0, -78.5)


@given(places=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=20))
def test_broken_exif_makes_no_image_unreadable(places, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "whole.jpg"
    details = {Base.DateTimeOriginal: "2023:07:14 18:05:09", Base.SubsecTimeOriginal: "25"}
    gps = {GPS.GPSLatitudeRef: "S", GPS.GPSLatitude: (33.0, 51.0, 24.84)}
    damaged = np.frombuffer(saved(path, {Base.Make: "Apple"}, details, gps).read_bytes(), np.uint8).copy()
    start = damaged.tobytes().index(b"Exif\0\0") + 6
    length = int.from_bytes(damaged[start - 8 : start - 6].tobytes(), "big") - 8
    for place, value in places:
        damaged[start + place % length] = value
    path.write_bytes(damaged.tobytes())
    found = read(path)
    assert {found.width, found.height} == {8, 6}
