"""An index against a matrix product and a sort; what is refused."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.helpers.photo_folder import unit, written
from vse_gpo.errors import VSEError
from vse_gpo.search import index as index_module
from vse_gpo.search.index import Index
from vse_gpo.search.kinds import Flat, InvertedLists
from vse_gpo.search.pictures import EmbeddedImages
from vse_gpo.search.records import record_batch
from vse_gpo.search.stored import Picture, write_settings
from vse_gpo.search.writer import TableWriter


def plain(embeddings: torch.Tensor, queries: torch.Tensor, top: int) -> tuple[torch.Tensor, list[list[str]]]:
    similarity = queries @ embeddings.T
    order = similarity.argsort(dim=1, descending=True, stable=True)[:, :top]
    return similarity.gather(1, order), [[f"{row}.png" for row in line] for line in order.tolist()]


@pytest.mark.parametrize("kind", [Flat(), InvertedLists(lists=20, probes=20)])
def test_every_kind_finds_what_a_product_and_a_sort_find(kind, tmp_path):
    embeddings, queries = unit(120), unit(9, seed=1)
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
    table = TableWriter(tmp_path / "index")
    table.append(record_batch(EmbeddedImages([Picture(file, 1, 1)], unit(1), {})), {})
    write_settings(tmp_path / "index", replace(index.settings, version=table.version))
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


@pytest.mark.parametrize("kind", [Flat(), InvertedLists(lists=5, probes=5, candidates=60)])
@pytest.mark.parametrize("few", [0, 10**6])
def test_only_images_that_meet_a_condition_are_found(kind, few, tmp_path, monkeypatch):
    monkeypatch.setattr(index_module, "FEW", few)
    embeddings, queries = unit(120), unit(4, seed=1)
    index = written(tmp_path, embeddings, kind)
    chosen = [row for row in range(120) if f"{row}.png" < "2"]
    similarity = queries @ embeddings[chosen].T
    expected = [[f"{chosen[place]}.png" for place in line] for line in similarity.topk(5).indices.tolist()]
    assert index.search(queries, 5, where="file < '2'")[1] == expected
    assert index.search(queries, 5, where="bytes > 7")[1] == [[]] * 4
    for where, line in (("place = 'a'", "No field named place"), ("file = ", "sql parser error")):
        with pytest.raises(VSEError, match=f"where={where}: cannot be read .*{line}") as error:
            index.search(queries, 5, where=where)
        assert ".rs" not in str(error.value)


@pytest.mark.parametrize("kind", [Flat(), InvertedLists()])
def test_equal_scores_are_ordered_by_name_whatever_top(kind, tmp_path):
    index = written(tmp_path, torch.ones(40, 16) / 4, kind)
    names = sorted(f"{row}.png" for row in range(40))
    if index.settings.recall is None:
        assert [index.search(unit(1), top)[1][0] for top in (1, 7, 40)] == [names[:1], names[:7], names]
    assert index.search(unit(1), 4, where="file < '2'")[1][0] == names[:4]


def test_a_search_does_not_see_an_update_that_is_under_way(tmp_path):
    before = written(tmp_path, unit(20), InvertedLists())
    table = TableWriter(tmp_path)
    table.append(record_batch(EmbeddedImages([Picture("new.png", 1, 1)], unit(1, seed=3), {})), {})
    table.remove([0, 1])
    assert len(Index.load(tmp_path)) == len(before) == 20
    now = written(tmp_path, unit(30))
    assert len(now) == 30
    assert before.search(unit(2, seed=1), 20)[1][0]  # read from the disk, where the version of before is kept
    written(tmp_path, unit(31))
    with pytest.raises(VSEError, match="the index has been updated since it was opened; open it again"):
        before.search(unit(2, seed=1), 5)


@pytest.mark.parametrize("where", ["data", "_versions", "index.json"])
@pytest.mark.parametrize("content", [None, b"", b"{}", b"\x80\x04\x95 pickle"])
def test_damaged_files_give_one_line(where, content, tmp_path):
    written(tmp_path / "index", unit(30))
    [path] = [
        path
        for path in (tmp_path / "index").rglob("*")
        if path.is_file() and where in str(path.relative_to(tmp_path)) and "hint" not in path.name
    ]
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(VSEError, match=r"python -m vse_gpo\.index makes") as error:
        Index.load(tmp_path / "index")
    assert "\n" not in str(error.value)


def test_changed_embeddings_are_found_when_they_are_read(tmp_path):
    embeddings = unit(30)
    written(tmp_path, embeddings, InvertedLists())
    [path] = (tmp_path / "images.lance" / "data").iterdir()
    content = path.read_bytes()
    numbers = embeddings[7].numpy().tobytes()
    assert content.count(numbers) == 1
    path.write_bytes(content.replace(numbers, bytes([numbers[0] ^ 4]) + numbers[1:]))
    index = Index.load(tmp_path)
    for read in (index.embeddings, lambda: index.search(unit(1), 30), lambda: index.embedding_of(7)):
        with pytest.raises(VSEError, match=r"a damaged index .embeddings have changed on the disk.; python -m"):
            read()
    assert torch.equal(index.embedding_of(6), embeddings[6:7])


def test_another_model_is_refused(tmp_path):
    index = written(tmp_path / "index", unit(2))
    index.check_model("f" * 64, "model")
    with pytest.raises(VSEError, match=r"other is another model \(aaaa.* than the index was made with \(ffff"):
        index.check_model("a" * 64, "other")


def test_no_index_is_told(tmp_path):
    with pytest.raises(VSEError, match=r"no index \(no such file or directory\); python -m vse_gpo\.index makes one"):
        Index.load(Path(tmp_path / "nothing"))


@pytest.mark.parametrize(("value", "message"), [(torch.nan, "holds NaN or infinity"), (0.0, "is zero")])
def test_queries_without_a_direction_are_refused(value, message, tmp_path):
    embeddings = unit(3)
    index = written(tmp_path / "index", embeddings)
    embeddings[1] = value
    with pytest.raises(VSEError, match=f"query 1 {message}"):
        index.search(embeddings, 1)
