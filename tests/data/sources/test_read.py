"""Sources told by their content."""

import pytest

from vse_gpo.data.sources.columns import Wanted
from vse_gpo.data.sources.read import image_folder, read_captions, read_part
from vse_gpo.errors import VSEError


def test_a_file_that_is_not_there_or_not_utf8_is_named(tmp_path):
    with pytest.raises(VSEError, match=r"none\.csv: cannot be read \(no such file"):
        read_captions(tmp_path / "none.csv")
    (tmp_path / "latin.csv").write_bytes("image,caption\na.jpg,caf\xe9\n".encode("latin-1"))
    with pytest.raises(VSEError, match="line 2 is not UTF-8"):
        read_captions(tmp_path / "latin.csv")


def test_names_in_subfolders_begin_at_the_source(tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "metadata.csv").write_text(f"file_name,text\n1.jpg,{folder}\n", encoding="utf-8")
        (tmp_path / folder / "1.jpg").touch()
    found = read_captions(tmp_path)
    assert [(one.image_id, one.file, one.caption) for one in found.described] == [
        ("a/1.jpg", "a/1.jpg", "a"),
        ("b/1.jpg", "b/1.jpg", "b"),
    ]
    assert found.folder == tmp_path


def test_images_are_looked_for_beside_the_list(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").touch()
    assert image_folder(tmp_path, "a.jpg") == tmp_path / "photos"
    assert image_folder(tmp_path, "photos/a.jpg") == tmp_path
    assert image_folder(tmp_path, str(tmp_path / "photos" / "a.jpg")) is None
    assert image_folder(tmp_path / "photos", "../photos/a.jpg") is None


def test_a_part_is_told_by_its_content(tmp_path):
    (tmp_path / "c.json").write_text("image,caption\na.jpg,x", encoding="utf-8")
    assert read_part(tmp_path / "c.json", Wanted(), []).told.startswith("a table with commas")
    assert read_part(tmp_path / "c.json", Wanted(), []).images is None
