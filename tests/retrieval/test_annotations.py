"""Annotations that do not fit are told in one line, with one expectation."""

import re

import pytest

from vse_gpo.errors import VSEError
from vse_gpo.retrieval.annotations import read_crisscrossed

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
