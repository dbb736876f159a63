"""What an update takes over: files by their content, and a table that any crash leaves whole."""

import shutil

import pytest
import torch

from tests.helpers.photo_folder import paint, small_model, touch
from tests.helpers.photo_index import FILES, run_index, vectors
from vse_gpo.search import updating
from vse_gpo.search.index import Index
from vse_gpo.search.updating import Changes, changes_of, pace, write_line


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "model"
    small_model().save_pretrained(folder)
    return folder


@pytest.fixture
def update(pictures, model, tmp_path, monkeypatch, capsys):
    """Indexes the pictures; the last line that was printed, and the files that were embedded."""
    embedded = []
    embed = updating.embed_pictures

    def noted(model, folder, found, *more):
        embedded.extend(picture.file for picture in found)
        return embed(model, folder, found, *more)

    monkeypatch.setattr(updating, "embed_pictures", noted)

    def run(*overrides) -> tuple[str, list[str]]:
        embedded.clear()
        run_index(f"images={pictures}", f"model={model}", f"out={tmp_path / 'index'}", *overrides)
        return capsys.readouterr().out.splitlines()[-1].partition(": ")[2], [*embedded]

    return run


def test_moved_files_keep_their_embeddings(update, pictures, tmp_path):
    assert update() == ("8 images (8 new, 0 changed, 0 renamed, 0 removed)", sorted(FILES))
    before = vectors(tmp_path / "index")
    shutil.move(pictures / "deep", pictures / "elsewhere")
    (pictures / "0.png").rename(pictures / "zero.png")
    shutil.copy(pictures / "1.png", pictures / "copy.png")
    (pictures / "2.png").unlink()
    touch(pictures / "3.png", 10**9)  # only its time
    assert update() == ("8 images (1 new, 0 changed, 5 renamed, 1 removed)", [])
    after = vectors(tmp_path / "index")
    for name, former in (("zero", "0"), ("copy", "1"), ("1", "1"), ("elsewhere/3", "deep/3"), ("3", "3")):
        assert torch.equal(after[f"{name}.png"], before[f"{former}.png"])
    assert len(after) == 8


def test_a_file_that_has_another_content_of_the_same_size_is_embedded(update, pictures):
    for seed in range(2):
        paint(pictures / f"{seed}.bmp", seed)
    update()
    touch(paint(pictures / "0.bmp", 7), 10**9)
    assert update() == ("10 images (0 new, 1 changed, 0 renamed, 0 removed)", ["0.bmp"])
    assert update() == ("10 images (0 new, 0 changed, 0 renamed, 0 removed)", [])


def test_new_images_join_the_lists_of_an_approximate_index(update, pictures, tmp_path):
    update("kind=ivf")
    (pictures / "0.png").unlink()
    paint(pictures / "new.png", 50)
    assert update("kind=ivf") == ("8 images (1 new, 0 changed, 0 renamed, 1 removed)", ["new.png"])
    index = Index.load(tmp_path / "index")
    embeddings = torch.from_numpy(index.embeddings())
    for row, file in enumerate(index.names.to_pylist()):
        assert index.search(embeddings[row : row + 1], 1)[1] == [[file]]
    assert index.settings.recall == 100.0


def test_files_that_change_places_are_known(update, pictures, tmp_path):
    update()
    before = vectors(tmp_path / "index")
    (pictures / "0.png").rename(pictures / "x.png")
    (pictures / "1.png").rename(pictures / "0.png")
    (pictures / "x.png").rename(pictures / "1.png")
    assert update() == ("8 images (0 new, 2 changed, 0 renamed, 0 removed)", [])
    after = vectors(tmp_path / "index")
    assert torch.equal(after["0.png"], before["1.png"])
    assert torch.equal(after["1.png"], before["0.png"])


def test_the_log_says_how_fast_images_are_embedded(update, tmp_path, monkeypatch):
    monkeypatch.setattr(updating, "SAVE_EVERY", 0.0)
    update()
    lines = (tmp_path / "index" / "indexing.log").read_text().splitlines()
    assert [line.split(maxsplit=2)[2].partition(",")[0] for line in lines] == [
        f"{done} of 8 images" for done in (2, 4, 6, 8)
    ]
    assert pace(4096, 50_000, 10.0) == "4,096 of 50,000 images, 410 a second, 1:52 left"
    write_line(tmp_path / "no such folder", "is left out")


@pytest.mark.parametrize(
    ("before", "after", "changes"),
    [
        ({}, {"a": "1"}, Changes(1, 0, 0, 0)),
        ({"a": "1"}, {"a": "2"}, Changes(0, 1, 0, 0)),
        ({"a": "1"}, {"b": "1"}, Changes(0, 0, 1, 0)),
        ({"a": "1"}, {"a": "1", "b": "1"}, Changes(1, 0, 0, 0)),
        ({"a": "1", "b": "1"}, {"c": "1"}, Changes(0, 0, 1, 1)),
        ({"a": "1"}, {"b": "1", "c": "1"}, Changes(1, 0, 1, 0)),
        ({"a": "1", "b": "2"}, {"b": "1"}, Changes(0, 1, 0, 1)),
    ],
)
def test_changes_are_counted_in_files(before, after, changes):
    assert changes_of(before, after) == changes
