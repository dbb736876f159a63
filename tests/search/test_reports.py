"""What the command prints of an index."""

from collections import Counter

from tests.helpers.photo_folder import unit, written
from vse_gpo.search.kinds import InvertedLists
from vse_gpo.search.pictures import Found
from vse_gpo.search.reports import contents, report_index, report_skipped


def test_what_has_changed_is_told(tmp_path, capsys):
    former = written(tmp_path / "index", unit(3))
    report_index(tmp_path, former, written(tmp_path / "other", unit(5), InvertedLists()))
    kind, recall, last = capsys.readouterr().out.splitlines()
    assert kind == "kind: Flat() → InvertedLists(lists=None, probes=128, candidates=10)"
    assert recall == "recall@10 against exact search: 100.0 % (sample of the images)"
    assert last == f"{tmp_path}: 5 images (2 new, 0 changed, 0 renamed, 0 removed)"
    assert contents(former).keys() == {"0.png", "1.png", "2.png"}


def test_skipped_files_are_told_by_kind(capsys):
    report_skipped(
        Found([], {}, Counter({".txt": 3, ".mp4": 1})), {f"{number:02}.png": "empty" for number in range(22)}
    )
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        f"skipped 22 .png: empty: {', '.join(f'{number:02}.png' for number in range(10))}, …",
        "skipped 4 files that are no images: 3 .txt, 1 .mp4",
    ]
