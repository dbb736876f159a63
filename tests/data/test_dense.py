import pytest

from vse_gpo.data.dense import read_dense
from vse_gpo.errors import VSEError


@pytest.mark.parametrize(
    ("text", "dense"),
    [
        ("a long one\nanother", [["a long one"], ["another"]]),
        ("a\nb\nc\nd\r\n", [["a", "b"], ["c", "d"]]),
        ("a\u2028still a\nb\n", [["a\u2028still a"], ["b"]]),
    ],
)
def test_images_have_as_many_lines_each_in_their_order(tmp_path, text, dense):
    (tmp_path / "dense.txt").write_text(text, encoding="utf-8", newline="")
    assert read_dense(tmp_path / "dense.txt", 2) == dense


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a\nb\nc\n", "3 lines for 2 images, expected a dense caption for each image"),
        ("a\n", "1 lines for 2 images, expected"),
        ("a\nb\n \nd\n", "line 3 is blank, expected a dense caption on every line"),
        ("", "the file is empty"),
    ],
)
def test_what_does_not_fit_the_images_is_refused(tmp_path, text, problem):
    (tmp_path / "dense.txt").write_text(text, encoding="utf-8")
    with pytest.raises(VSEError, match=f"dense.txt: {problem}"):
        read_dense(tmp_path / "dense.txt", 2)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(VSEError, match=r"none.txt: no such file"):
        read_dense(tmp_path / "none.txt", 2)
