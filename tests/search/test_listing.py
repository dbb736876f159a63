"""vse-duplicates as a user starts it: every planted copy is found, no other image, and no file is touched."""

import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from PIL import Image

from tests.helpers.drawn_photos import drawn_photo
from tests.helpers.photo_folder import small_model, unit, written
from tests.helpers.photo_index import indexed, run_index
from tests.helpers.planted_copies import CHANGES, plant
from vse_gpo.cli.folders import config_folder
from vse_gpo.errors import VSEError
from vse_gpo.search import duplicates
from vse_gpo.search.index import Index
from vse_gpo.search.listing import find_copies, list_copies

PHOTOS, MODEL = "VSE_GPO_PHOTOS", "VSE_GPO_MODEL"


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """An index of twenty drawings, of which three have copies."""
    home = tmp_path_factory.mktemp("home")
    pictures = home / "pictures"
    pictures.mkdir()
    for seed in range(20):
        drawn_photo(seed).save(pictures / f"{seed}.png")
    for seed in (3, 7):
        plant(drawn_photo(seed), pictures / f"copies of {seed}")
    for name in ("again.png", "copies of 7/again.png"):
        shutil.copy(pictures / "11.png", pictures / name)
    for name, colour in (("black.png", "black"), ("white.png", "white"), ("black.bmp", "black")):
        Image.new("RGB", (50, 50), colour).save(pictures / name)
    indexed(home, small_model())
    return home / "index"


@pytest.fixture
def listed(made, monkeypatch, capsys) -> Callable[..., str]:
    """Runs the command; what it prints."""
    monkeypatch.chdir(made.parent)
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)

    def run(*arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", ["vse-duplicates", f"index={made}", *arguments])
        capsys.readouterr()
        duplicates.main()
        return capsys.readouterr().out

    return run


def test_planted_copies_are_found_and_kept_apart(listed, made):
    before = sorted((made.parent / "pictures").rglob("*"))
    found = json.loads(listed("json=true"))
    assert [[file["file"] for file in group] for group in found["exact"]] == [
        ["11.png", "again.png", "copies of 7/again.png"],
        ["3.png", "copies of 3/other.png"],
        ["7.png", "copies of 7/other.png"],
    ]
    near = [{file["file"] for file in group} for group in found["near"]]
    changed = CHANGES.keys() - {"other.png"}
    assert near == [{f"{seed}.png", *(f"copies of {seed}/{name}" for name in changed)} for seed in (3, 7)]
    sizes = [[file["width"] * file["height"] for file in group] for group in found["near"]]
    assert sizes == [sorted(group, reverse=True) for group in sizes]
    assert all(file["bits"] + 20 * file["distance"] <= 17.01 for group in found["near"] for file in group)
    assert sorted((made.parent / "pictures").rglob("*")) == before


def test_copies_are_printed_as_a_list(listed):
    lines = listed().splitlines()
    assert lines[0] == "exact copies: 7 files in 3 groups"
    assert lines[1].split() == ["400", "×", "300", *lines[1].split()[3:5], "11.png"]
    assert f"near copies: {2 * len(CHANGES)} files in 2 groups" in lines
    [half] = [line for line in lines if line.endswith("copies of 3/half.jpg")]
    assert "200 × 150" in half
    assert " bits, distance 0.0" in half


def test_narrower_limits_find_less(listed):
    assert "near copies: none" in listed("difference=0.0")


def test_images_without_a_perceptual_hash_are_compared_by_content_only(tmp_path):
    index = written(tmp_path / "index", unit(5)[[0, 0, 1, 2, 3]])
    found = find_copies(index, limit=64, random=np.random.default_rng(0))
    assert found == ([], [])


@pytest.mark.parametrize("difference", [-1.0, 64.5, "abc"])
def test_impossible_limits_are_told(difference):
    with pytest.raises(VSEError) as error:
        list_copies(index="nowhere", difference=difference, seed=0, json=False)
    assert str(error.value) == f"difference={difference}, expected a number from 0 to 64"


@pytest.mark.slow
@pytest.mark.skipif(
    not {PHOTOS, MODEL} <= os.environ.keys(),
    reason=f"{PHOTOS} names no folder of different photographs, or {MODEL} no model",
)
def test_planted_copies_of_real_photographs_are_found_and_no_others(tmp_path):
    """A thousand photographs, fifty of them with copies."""
    paths = sorted(Path(os.environ[PHOTOS]).iterdir())[:1000]
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for path in paths:
        shutil.copy(path, pictures / path.name)
    for path in paths[::20]:
        with Image.open(path) as image:
            plant(image.convert("RGB"), pictures / f"copies of {path.name}")
    run_index(f"images={pictures}", f"model={os.environ[MODEL]}", f"out={tmp_path / 'index'}", "batch_size=32")
    with initialize_config_dir(config_folder(), version_base="1.3"):
        limit = compose("duplicates").difference
    found = find_copies(Index.load(tmp_path / "index"), limit=limit, random=np.random.default_rng(0))
    names = [{file["file"].rpartition("/")[0] or f"copies of {file['file']}" for file in group} for group in found.near]
    assert all(len(group) == 1 for group in names)  # no photograph is near another
    assert sum(map(len, found.near)) == 50 * (1 + len(CHANGES))
