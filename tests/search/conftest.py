"""Folders of painted images and their indexes; one has a file whose name holds markup."""

from pathlib import Path

import pytest
from PIL import ExifTags, Image

from tests.helpers.photo_folder import paint, small_model
from tests.helpers.photo_index import FILES, HOSTILE, indexed
from vse_gpo import VSE
from vse_gpo.search.index import Index


@pytest.fixture(scope="module")
def model() -> VSE:
    return small_model()


@pytest.fixture
def index(tmp_path, model) -> Index:
    files = [HOSTILE, *(f"{number}.png" for number in range(5))]
    for seed, file in enumerate(files):
        paint(tmp_path / "pictures" / file, seed)
    return indexed(tmp_path, model)


@pytest.fixture
def pictures(tmp_path) -> Path:
    for seed, file in enumerate(FILES):
        paint(tmp_path / "pictures" / file, seed)
    return tmp_path / "pictures"


PHOTOS = {  # file → date, camera, latitude
    "a.jpg": ("2022:12:05 10:00:00", "Canon", None),
    "trip/b.jpg": ("2022:12:31 23:59:59", "iPhone 12", 48.5),
    "trip/lake/c.jpg": ("2023:02:01 00:00:00", "iPhone 12", None),
    "d.jpg": (None, None, None),
}


@pytest.fixture
def dated_index(tmp_path, model) -> Index:
    """Four photos that say when, where and by what they were taken, as far as they do."""
    for seed, (file, (date, camera, latitude)) in enumerate(PHOTOS.items()):
        path, exif = paint(tmp_path / "pictures" / file, seed), Image.Exif()
        if date:
            exif[ExifTags.Base.Model] = camera
            exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.DateTimeOriginal] = date
        if latitude:
            place = {ExifTags.GPS.GPSLatitudeRef: "N", ExifTags.GPS.GPSLatitude: (latitude, 0, 0)}
            place |= {ExifTags.GPS.GPSLongitudeRef: "E", ExifTags.GPS.GPSLongitude: (16.0, 0, 0)}
            exif.get_ifd(ExifTags.IFD.GPSInfo).update(place)
        with Image.open(path) as painted:
            painted.load()
        painted.save(path, exif=exif)
    return indexed(tmp_path, model)
