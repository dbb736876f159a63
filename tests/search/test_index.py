"""An index against a matrix product and a sort; what is refused."""

import errno
import json
import os
from pathlib import Path

import pytest
import torch

from tests.helpers.photo_folder import unit, written
from vse_gpo.errors import VSEError
from vse_gpo.search.index import Index, leads_out
from vse_gpo.search.kinds import Flat, Graph, InvertedLists


def plain(embeddings: torch.Tensor, queries: torch.Tensor, top: int) -> tuple[torch.Tensor, list[list[str]]]:
    similarity = queries @ embeddings.T
    order = similarity.argsort(dim=1, descending=True, stable=True)[:, :top]
    return similarity.gather(1, order), [[f"{row}.png" for row in line] for line in order.tolist()]


def forge(folder: Path) -> None:
    """What someone else writes may have any checksums, or none."""
    path = folder / "index.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"checksums": None}))


@pytest.mark.parametrize("kind", [Flat(), InvertedLists(lists=20, probes=20), Graph(effort=200)])
def test_every_kind_finds_what_a_product_and_a_sort_find(kind, tmp_path):
    embeddings, queries = unit(300), unit(9, seed=1)
    index = written(tmp_path / "index", embeddings, kind)
    scores, files = index.search(queries, 7)
    expected, names = plain(embeddings, queries, 7)
    assert files == names
    torch.testing.assert_close(torch.tensor(scores), expected, atol=1e-5, rtol=0)


def test_few_pictures_and_large_tops(tmp_path):
    index = written(tmp_path / "one", unit(1), InvertedLists())
    assert index.search(unit(2), 10)[1] == [["0.png"], ["0.png"]]
    with pytest.raises(VSEError, match="top=0, expected 1 or more"):
        index.search(unit(1), 0)
    with pytest.raises(VSEError, match="embeddings of width 8, the index holds 16"):
        index.search(unit(1, width=8), 1)


def test_an_approximate_index_that_finds_less_gives_less(tmp_path):
    index = written(tmp_path / "index", unit(40), InvertedLists(lists=10, probes=1))
    scores, files = index.search(unit(5, seed=2), 40)
    assert all(0 < len(line) < 40 for line in files)
    assert [len(line) for line in scores] == [len(line) for line in files]


@pytest.mark.parametrize("file", ["../secret.png", "/etc/passwd", "a/../../b.png", "", ".", "a\0.png"])
def test_a_name_that_leads_out_is_refused(file, tmp_path):
    index = written(tmp_path / "index", unit(2))
    [names] = (tmp_path / "index").glob("pictures-*.json")
    names.write_text(json.dumps([["0.png", 1, 1], [file, 1, 1]]))
    forge(tmp_path / "index")
    with pytest.raises(VSEError, match="leads out of its image folder"):
        Index.load(tmp_path / "index")
    with pytest.raises(VSEError, match="leads out of"):
        index.path(file)


def test_a_link_is_not_followed_out_of_the_image_folder(tmp_path):
    index = written(tmp_path / "index", unit(2))
    (tmp_path / "index" / "pictures").mkdir()
    (tmp_path / "secret.png").write_bytes(b"")
    (tmp_path / "index" / "pictures" / "0.png").symlink_to(tmp_path / "secret.png")
    with pytest.raises(VSEError, match="leads out of"):
        index.path("0.png")
    assert index.path("1.png") == tmp_path / "index" / "pictures" / "1.png"


def test_names_with_dots_are_no_way_out():
    assert not any(leads_out(file) for file in ("a..b.png", "...png", "a/b c/ü.png", "-.png"))


@pytest.mark.parametrize("name", ["index.json", "exact-1.faiss", "approximate-1.faiss", "pictures-1.json"])
@pytest.mark.parametrize("content", [None, b"", b"{}", b"[1]", b"\x80\x04\x95 pickle"])
def test_damaged_files_give_one_line(name, content, tmp_path):
    written(tmp_path / "index", unit(30), InvertedLists())
    path = tmp_path / "index" / name
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(VSEError, match=r"python -m vse_gpo\.index makes") as error:
        Index.load(tmp_path / "index")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "change", [{"generation": "../1"}, {"images": 3}, {"more": 1}, {"checksums": 3}, {"checksums": {"../x": 1}}]
)
def test_settings_of_another_kind_are_refused(change, tmp_path):
    written(tmp_path / "index", unit(3))
    path = tmp_path / "index" / "index.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(VSEError, match="index"):
        Index.load(tmp_path / "index")


def test_embeddings_and_names_must_fit_each_other(tmp_path):
    for name, rows in (("index", 5), ("other", 6)):
        written(tmp_path / name, unit(rows))
    forge(tmp_path / "index")
    (tmp_path / "other" / "exact-1.faiss").replace(tmp_path / "index" / "exact-1.faiss")
    with pytest.raises(VSEError, match="do not fit each other"):
        Index.load(tmp_path / "index")


@pytest.mark.parametrize("name", ["exact-1.faiss", "approximate-1.faiss", "pictures-1.json"])
def test_a_flipped_bit_is_found(name, tmp_path):
    written(tmp_path / "index", unit(30), InvertedLists())
    path = tmp_path / "index" / name
    content = bytearray(path.read_bytes())
    for place in range(0, len(content), 97):
        content[place] ^= 4
        path.write_bytes(content)
        with pytest.raises(VSEError, match=f"a damaged index, its {name.partition('-')[0]} have changed on the disk"):
            Index.load(tmp_path / "index")
        content[place] ^= 4
    path.write_bytes(content)
    assert len(Index.load(tmp_path / "index")) == 30


def test_an_index_of_an_earlier_version_has_no_checksums(tmp_path):
    written(tmp_path / "index", unit(3))
    path = tmp_path / "index" / "index.json"
    settings = json.loads(path.read_text())
    del settings["checksums"]
    path.write_text(json.dumps(settings))
    assert len(Index.load(tmp_path / "index")) == 3


def test_an_update_that_fails_leaves_the_index_as_it_was(tmp_path, monkeypatch):
    before = written(tmp_path / "index", unit(5))
    real, calls = os.fsync, []

    def full(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) == 3:  # the last file, which names the others
            raise OSError(errno.ENOSPC, "No space left on device")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(VSEError, match="No space left"):
        written(tmp_path / "index", unit(9))
    monkeypatch.undo()
    assert sorted(path.name for path in (tmp_path / "index").iterdir()) == [
        "exact-1.faiss",
        "index.json",
        "pictures-1.json",
    ]
    again = Index.load(tmp_path / "index")
    assert again.pictures == before.pictures
    assert len(written(tmp_path / "index", unit(9))) == 9
    assert sorted(path.name for path in (tmp_path / "index").iterdir()) == [
        "exact-2.faiss",
        "index.json",
        "pictures-2.json",
    ]


def test_another_model_is_refused(tmp_path):
    index = written(tmp_path / "index", unit(2))
    index.check_model("f" * 64, "model")
    with pytest.raises(VSEError, match=r"other is another model \(aaaa.* than the index was made with \(ffff"):
        index.check_model("a" * 64, "other")


def test_no_index_is_told(tmp_path):
    with pytest.raises(VSEError, match=r"no index \(no such file or directory\); python -m vse_gpo\.index makes one"):
        Index.load(Path(tmp_path / "nothing"))


@pytest.mark.parametrize(("value", "message"), [(torch.nan, "holds NaN or infinity"), (0.0, "is zero")])
def test_embeddings_and_queries_without_a_direction_are_refused(value, message, tmp_path):
    embeddings = unit(3)
    index = written(tmp_path / "index", embeddings)
    embeddings[1] = value
    with pytest.raises(VSEError, match=f"embedding of image 1 {message}"):
        written(tmp_path / "other", embeddings)
    assert not any((tmp_path / "other").iterdir())
    with pytest.raises(VSEError, match=f"query 1 {message}"):
        index.search(embeddings, 1)
