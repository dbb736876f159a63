import pytest

from vse_gpo.errors import VSEError
from vse_gpo.storage.writing import write_text


def test_a_file_in_the_place_of_a_folder_is_told_in_one_line(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(VSEError, match=r"cannot be written .*what was there before is kept"):
        write_text(tmp_path / "file" / "x.json", "{}")
