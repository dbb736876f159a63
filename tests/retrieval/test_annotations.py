"""Annotated positives: read, matched to rows by COCO's ids, and refused where they do not fit."""

import csv
import json
import os
import re
from pathlib import Path

import numpy as np
import pytest

from tests.golden import CXC
from tests.helpers.coco_order import coco_test_order
from vse_gpo.errors import VSEError
from vse_gpo.retrieval.annotations import (
    CocoRows,
    coco_caption_ids,
    coco_id,
    eccv_folder,
    read_crisscrossed,
    read_positives,
)


def test_caption_ids_follow_from_the_released_order():
    image_ids = (CXC / "testall_ids.txt").read_text().split()[::5]
    index = np.arange(40).repeat(5)
    expected = (CXC / "testall_capids.txt").read_text().split()
    assert coco_caption_ids(image_ids, index, CXC) == expected
    with pytest.raises(VSEError, match="caption 0 belongs to image"):
        coco_caption_ids(image_ids[::-1], index, CXC)


def write_csv(folder, name, rows):
    with (folder / f"{name}_test.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("first", "second", "agg_score", "sampling_method"), *rows])


@pytest.fixture
def public(tmp_path):
    image, sentence = "COCO_val2014_{:012d}.jpg", "COCO_val2014:sentid:{}"
    write_csv(
        tmp_path,
        "sits",
        [
            (sentence.format(70), image.format(1), 2.0, "c2i_original"),
            (sentence.format(71), image.format(2), 5.0, "c2i_original"),
            (sentence.format(71), image.format(1), 3.0, "c2i_intrasim"),
            (sentence.format(70), image.format(2), 2.9, "c2i_intrasim"),
        ],
    )
    write_csv(tmp_path, "sis", [(image.format(1), image.format(2), 2.5, "i2i_csim")])
    write_csv(tmp_path, "sts", [(sentence.format(70), sentence.format(71), 2.9, "c2c_isim")])
    return tmp_path


def test_positives_of_the_public_files_and_their_variants(public):
    crossed = read_crisscrossed(public)
    assert crossed.t2i == [(70, 1), (71, 2), (71, 1)]
    assert crossed.i2t == [(1, 70), (2, 71), (1, 71)]
    assert crossed.i2i == [(1, 2), (2, 1)]
    assert crossed.t2t == []
    thresholded = read_crisscrossed(public, threshold_originals=True)
    assert thresholded.t2i == [(71, 2), (71, 1)]
    assert crossed.variant != thresholded.variant


@pytest.mark.skipif("VSE_GPO_DATA" not in os.environ, reason="VSE_GPO_DATA names no folder with coco/cxc")
def test_the_public_files_hold_what_is_known_of_them():
    folder = Path(os.environ["VSE_GPO_DATA"]) / "coco" / "cxc"
    crossed, thresholded = (read_crisscrossed(folder, threshold_originals=choice) for choice in (False, True))
    assert len({image for image, _ in crossed.i2i}) == 4791
    assert (len({caption for caption, _ in crossed.t2i}), len(crossed.t2i)) == (25000, 25000 + 10614)
    assert len({caption for caption, _ in thresholded.t2i}) == 24972
    of_package = read_positives(eccv_folder(), "cxc")
    assert set(thresholded.i2t) == set(of_package[0])
    assert set(thresholded.t2i) == set(of_package[1])


def test_wrong_annotations_are_named(public, tmp_path):
    with pytest.raises(VSEError, match="neither cxc_it"):
        read_crisscrossed(tmp_path / "elsewhere")
    (public / "sis_test.csv").write_text("image1,image2,agg_score,sampling_method\na,b,c\n")
    with pytest.raises(VSEError, match=r"sis_test\.csv"):
        read_crisscrossed(public)
    (public / "cxc_it.json").write_text(json.dumps({"t2i": 3}))
    for name in ("i2i", "t2t"):
        (public / f"cxc_{name}.json").write_text("{}")
    with pytest.raises(VSEError, match="hold something else"):
        read_crisscrossed(public)


def test_unknown_and_repeated_ids_are_refused():
    rows = CocoRows(["1", "2"], ["70", "71"])
    with pytest.raises(VSEError, match="annotates 1 ids that are not among the 2 evaluated, first 3"):
        rows.of("i2t", [(3, 70)], "cxc")
    with pytest.raises(VSEError, match="image id 2 occurs twice, in rows 0 and 1"):
        CocoRows(["2", "2"], [])
    with pytest.raises(VSEError, match="ends in no number"):
        coco_id("a_dog.jpg")


def test_caption_ids_follow_from_the_order_of_the_benchmark():
    image_ids, caption_ids, owners = coco_test_order()
    found = coco_caption_ids([f"COCO_val2014_{one:012d}.jpg" for one in image_ids], owners)
    assert found == [str(one) for one in caption_ids]
    with pytest.raises(VSEError, match="10 captions of 2 images are not the 25000"):
        coco_caption_ids(["1", "2"], np.arange(2).repeat(5))


def test_annotations_that_cannot_be_read_are_named(tmp_path):
    with pytest.raises(VSEError, match=r"pm_image_to_caption\.json"):
        read_positives(tmp_path, "pm")
    for kind in ("image_to_caption", "caption_to_image"):
        (tmp_path / f"pm_{kind}.json").write_text(json.dumps([1, 2]))
    with pytest.raises(VSEError, match="hold something else"):
        read_positives(tmp_path, "pm")


HEAD = "caption,image,agg_score,sampling_method\n"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("a dog,COCO_val2014_000000000001.jpg,4.0,c2i_original", "id 'a dog' ends in no number, expected a COCO id as"),
        ("1,2,high,c2i_original", "could not convert .* 'high'; expected Crisscrossed Captions' columns"),
        ("1,2,4.0", "not enough values .*; expected Crisscrossed Captions' columns"),
    ],
)
def test_a_line_of_another_kind_is_told_once(line, message, tmp_path):
    for kind in ("sits", "sis", "sts"):
        (tmp_path / f"{kind}_test.csv").write_text(f"{HEAD}{line}\n")
    with pytest.raises(VSEError, match=rf"^{tmp_path}/s\w+_test\.csv: {message}") as error:
        read_crisscrossed(tmp_path)
    assert len(re.findall(r"[,;] expected", str(error.value))) == 1
