import json
import os
import pickle
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers.on_disk import CAPTIONS, FOLDER, listing, write_features, write_images, write_texts
from vse_gpo.data.files import feature_rows, find_images, match_ids, open_features, read_lines, read_listing
from vse_gpo.errors import VSEError

FILE = Path("train_ids.txt")


def one_line(error: pytest.ExceptionInfo[VSEError]) -> str:
    message = str(error.value)
    assert "\n" not in message
    return message


# captions and ids


def test_listing_keeps_every_caption_with_its_image(tmp_path: Path) -> None:
    write_texts(tmp_path)
    read = read_listing(tmp_path, "train")
    assert read.image_ids == ["7", "3", "12"]
    for caption, row in zip(read.captions, read.caption_to_image, strict=True):
        assert caption in CAPTIONS[read.image_ids[row]]
    assert len(read.captions) == 6


@pytest.mark.parametrize(
    ("data", "lines"),
    [
        (b"one\ntwo\n", ["one", "two"]),
        (b"one\r\ntwo", ["one", "two"]),
        (b"\xef\xbb\xbfone\n", ["one"]),
        (b"one\n\ntwo\n", ["one", "", "two"]),
        ("one\u2028still one\x0b, café\n".encode(), ["one\u2028still one\x0b, café"]),
    ],
)
def test_only_a_newline_ends_a_line(data: bytes, lines: list[str], tmp_path: Path) -> None:
    (tmp_path / "caps.txt").write_bytes(data)
    assert read_lines(tmp_path / "caps.txt") == lines


def test_a_caption_file_in_latin_1_names_the_line(tmp_path: Path) -> None:
    (tmp_path / "caps.txt").write_bytes(b"a dog\na caf\xe9\n")
    with pytest.raises(VSEError) as error:
        read_lines(tmp_path / "caps.txt")
    assert "caps.txt: line 2 is not UTF-8" in one_line(error)


@pytest.mark.parametrize(("data", "expected"), [(None, "no such file"), (b"", "the file is empty")])
def test_a_caption_file_that_holds_nothing(data: bytes | None, expected: str, tmp_path: Path) -> None:
    if data is not None:
        (tmp_path / "caps.txt").write_bytes(data)
    with pytest.raises(VSEError, match=expected):
        read_lines(tmp_path / "caps.txt")


def test_missing_root_says_what_to_set(tmp_path: Path) -> None:
    with pytest.raises(VSEError) as error:
        read_listing(tmp_path / "nowhere", "train")
    assert "nowhere: no such folder; set dataset.root" in one_line(error)


@given(st.lists(st.integers(1, 6), min_size=1, max_size=20))
def test_repeated_ids_with_any_number_of_captions(counts: list[int]) -> None:
    ids = [f"id{image}" for image, count in enumerate(counts) for _ in range(count)]
    image_ids, index = match_ids(ids, len(ids), FILE)
    assert [image_ids[row] for row in index] == ids


@given(images=st.integers(1, 20), each=st.integers(1, 6))
def test_both_forms_of_ids_give_the_same_index(images: int, each: int) -> None:
    ids = [f"id{image}" for image in range(images)]
    once = match_ids(ids, images * each, FILE)
    repeated = match_ids([image_id for image_id in ids for _ in range(each)], images * each, FILE)
    assert once[0] == repeated[0] == ids
    np.testing.assert_array_equal(once[1], repeated[1])


@pytest.mark.parametrize(
    ("ids", "captions", "message"),
    [
        (["a", "b"], 5, "2 ids for 5 captions"),
        (["a", "b", "c"], 2, "3 ids for 2 captions"),
        (["a", "b", "a"], 3, "line 3 goes back to image a"),
        (["a", "a"], 10, "an id occurs twice among 2"),
        (["a", " ", "b"], 3, "line 2 is blank"),
    ],
)
def test_ids_at_odds_with_the_captions(ids: list[str], captions: int, message: str) -> None:
    with pytest.raises(VSEError, match=message):
        match_ids(ids, captions, FILE)


# features


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_features_open_as_they_are(dtype: type, tmp_path: Path) -> None:
    features = np.arange(24, dtype=dtype).reshape(3, 2, 4)
    opened = open_features(write_features(tmp_path, features))
    assert opened.dtype == dtype
    np.testing.assert_array_equal(opened, features)


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (np.zeros((3, 4), np.float32), r"shape \(3, 4\)"),
        (np.zeros((3, 2, 4)), "float64"),
        (np.zeros((3, 0, 4), np.float32), r"shape \(3, 0, 4\)"),
        (np.array([[["a", None]]], dtype=object), "not a complete .npy file of numbers"),
    ],
)
def test_features_of_another_shape_or_kind(features: np.ndarray, message: str, tmp_path: Path) -> None:
    path = write_features(tmp_path, features)
    with pytest.raises(VSEError, match=message) as error:
        open_features(path)
    assert str(path) in one_line(error)


def test_a_file_that_is_no_npy_runs_no_code(tmp_path: Path) -> None:
    class Harm:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (exec, ("raise SystemExit('the pickle ran')",))

    path = tmp_path / "train_ims.npy"
    cut = write_features(tmp_path, np.zeros((4, 3, 2), np.float32)).read_bytes()[:-1]
    for content in (pickle.dumps(Harm()), b"", b"PK\x03\x04", cut):
        path.write_bytes(content)
        with pytest.raises(VSEError, match=r"not a complete \.npy file of numbers") as error:
            open_features(path)
        assert "allow_pickle" not in one_line(error)
    path.unlink()
    with pytest.raises(VSEError, match="no such file or directory; extract features"):
        open_features(path)


def test_a_row_per_image_or_per_caption() -> None:
    np.testing.assert_array_equal(feature_rows(3, listing(), FILE), [0, 1, 2])
    np.testing.assert_array_equal(feature_rows(6, listing(), FILE), [0, 3, 4])  # 3, 1 and 2 captions
    with pytest.raises(VSEError, match="4 rows for 3 images with 6 captions"):
        feature_rows(4, listing(), FILE)


def test_coco_sized_features_open_at_once_and_take_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "train_ims.npy"
    shape = (113_287, 36, 2048)
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": shape})
        try:
            file.truncate(file.tell() + 4 * int(np.prod(shape)))
        except OSError as error:
            pytest.skip(f"this file system holds no sparse file of 33 GB ({error})")
    if path.stat().st_blocks * 512 > 2**20:
        pytest.skip("this file system stores sparse files in full")
    before = resident_bytes()
    start = time.perf_counter()
    features = open_features(path)
    assert features[100_000].sum() == 0.0
    assert time.perf_counter() - start < 0.5
    assert resident_bytes() - before < 50 * 2**20


def resident_bytes() -> int:
    statm = Path("/proc/self/statm")
    if not statm.exists():
        pytest.skip("this system does not tell a process's memory")
    return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


# images


def test_every_id_finds_its_file(tmp_path: Path) -> None:
    mapping = write_images(tmp_path, list(CAPTIONS))
    assert find_images(tmp_path, FOLDER, listing()) == [mapping[image_id] for image_id in CAPTIONS]


def test_the_folder_may_be_a_link(tmp_path: Path) -> None:
    write_images(tmp_path / "elsewhere", list(CAPTIONS))
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / FOLDER).symlink_to(tmp_path / "elsewhere" / FOLDER)
    (tmp_path / "elsewhere" / "id_mapping.json").rename(tmp_path / "root" / "id_mapping.json")
    assert len(find_images(tmp_path / "root", FOLDER, listing())) == 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"7": None}, "no file for image '7' of train"),
        ({"7": None, "12": None}, "no file for image '7' and 1 more of train"),
        ({"7": "gone.jpg"}, "no file 'gone.jpg' of train"),
        ({"7": "val"}, "no file 'val' of train"),
        ({"7": ""}, "no file '' of train"),
        ({"7": "nowhere/7.jpg"}, "nowhere: no such file or directory"),
        ({"7": "../outside.jpg"}, ", outside "),
        ({"7": "/etc/passwd"}, ", outside "),
        ({"7": "/passwd"}, ", outside "),
        ({"7": "val/../../outside.jpg"}, ", outside "),
        ({"7": "link.jpg"}, "'link.jpg' points to .*outside.jpg, outside "),
        ({"7": "linked/7.jpg"}, "'linked' points to .*, outside "),
        ({"7": 7}, "not a mapping of names to names"),
    ],
)
def test_an_id_without_a_file_inside_the_folder(change: dict[str, object], message: str, tmp_path: Path) -> None:
    mapping: dict[str, object] = dict(write_images(tmp_path, list(CAPTIONS)))
    (tmp_path / "outside.jpg").write_bytes(b"secret")
    (tmp_path / FOLDER / "link.jpg").symlink_to(tmp_path / "outside.jpg")
    (tmp_path / FOLDER / "linked").symlink_to(tmp_path)
    mapping = {key: value for key, value in (mapping | change).items() if value is not None}
    (tmp_path / "id_mapping.json").write_text(json.dumps(mapping), encoding="utf-8")
    with pytest.raises(VSEError, match=message) as error:
        find_images(tmp_path, FOLDER, listing())
    one_line(error)


@pytest.mark.parametrize(
    ("text", "message"),
    [(None, "no such file"), ("[1]", "not a mapping"), ("{", "not JSON")],
)
def test_a_mapping_that_is_none(text: str | None, message: str, tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / "id_mapping.json").write_text(text, encoding="utf-8")
    with pytest.raises(VSEError, match=message):
        find_images(tmp_path, FOLDER, listing())


def test_reading_files_needs_no_torch() -> None:
    code = "import sys, vse_gpo.data.files; sys.exit('torch' in sys.modules)"
    assert subprocess.call([sys.executable, "-c", code]) == 0
