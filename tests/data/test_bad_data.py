"""Training on data that are not as they should be: one line that names the file, and nothing half-written."""

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.helpers.on_disk import write_images
from tests.helpers.tiny_root import tiny_root
from vse_gpo import train

GRID = [
    "backbone=timm_grid",
    "backbone.network.name=resnet10t",
    "backbone.network.pretrained=false",
    "backbone.width=512",
    "backbone.prepare.size=32",
]
Train = Callable[..., int]
Damage = Callable[[Path], None]


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Train:
    """Train with these overrides; gives the exit status."""

    def run(*overrides: str) -> int:
        monkeypatch.chdir(tmp_path)
        short = ["trainer.max_epochs=1", "trainer.log_every_n_steps=1", "hydra.run.dir=here"]
        monkeypatch.setattr(sys, "argv", ["vse-train", *overrides, *short])
        try:
            train.main()
        except SystemExit as end:
            return int(end.code or 0)
        return 0

    return run


def change(name: str, edit: Callable[[bytes], bytes]) -> Damage:
    def damage(root: Path) -> None:
        (root / name).write_bytes(edit((root / name).read_bytes()))

    return damage


def put_nan(root: Path) -> None:
    np.lib.format.open_memmap(root / "precomp" / "train_ims.npy", mode="r+")[7, 1, 2] = np.nan


def map_outside(root: Path) -> None:
    mapping = json.loads((root / "id_mapping.json").read_text(encoding="utf-8"))
    (root / "images" / "0.jpg").replace(root / "0.jpg")
    (root / "images" / "0.jpg").symlink_to(root / "0.jpg")
    assert mapping["0"] == "0.jpg"


def complain(start: Train, capsys: pytest.CaptureFixture[str], *overrides: str) -> str:
    """The line that a training in vain ends with."""
    assert start(*overrides) == 1
    output = capsys.readouterr()
    assert output.err.splitlines()[-1].startswith("error: ")
    assert "Traceback" not in output.err + output.out
    assert not list(Path.cwd().rglob("*.ckpt"))
    return output.err.splitlines()[-1].removeprefix("error: ")


@pytest.mark.parametrize(
    ("damage", "line"),
    [
        (change("precomp/train_ids.txt", lambda data: data + b"12\n"), r"train_ids\.txt: 25 ids for 24 captions"),
        (change("precomp/dev_caps.txt", lambda data: b"caf\xe9" + data[4:]), r"dev_caps\.txt: line 1 is not UTF-8"),
        (change("precomp/dev_ims.npy", lambda data: data[:-1]), r"dev_ims\.npy: not a complete \.npy file of numbers"),
        (
            change("precomp/train_ims.npy", lambda data: b"\x80\x04N."),
            r"train_ims\.npy: not a complete \.npy file of numbers",
        ),
    ],
)
def test_bad_files_stop_a_run_before_it_begins(
    damage: Damage, line: str, start: Train, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    overrides = tiny_root(tmp_path / "data")
    damage(tmp_path / "data")
    assert re.search(line, complain(start, capsys, *overrides))
    assert not Path("here").exists()


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("dataset.root=nowhere", r"dataset\.root=nowhere: no such folder; set dataset\.root"),
        ("backbone.width=8", r"train_ims\.npy: features are 4 wide, the backbone expects 8; set backbone\.width=4"),
    ],
)
def test_a_wrong_setting_stops_a_run_before_it_begins(
    override: str, line: str, start: Train, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert re.search(line, complain(start, capsys, *tiny_root(tmp_path / "data"), override))
    assert not Path("here").exists()


def test_nan_in_the_features_names_the_row(start: Train, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    overrides = tiny_root(tmp_path / "data")
    put_nan(tmp_path / "data")
    told = complain(start, capsys, *overrides)
    assert re.search(r"^/.*train_ims\.npy: row 7 \(image 7\) holds NaN or infinity", told)


@pytest.mark.parametrize(
    ("damage", "line"),
    [
        (change("images/4.jpg", lambda data: data[:200]), r"^/.*images/4\.jpg: cannot be decoded \(.*, 200 bytes\)"),
        (change("images/4.jpg", lambda data: b""), r"^/.*images/4\.jpg: cannot be decoded \(not an image, 0 bytes\)"),
        (lambda root: (root / "images" / "4.jpg").unlink(), r"images: no file '4\.jpg' of train"),
        (map_outside, r"id_mapping\.json: '0\.jpg' points to .*, outside"),
        (change("id_mapping.json", lambda data: data.replace(b'"4"', b'"x"')), "no file for image '4' of train"),
    ],
)
def test_a_bad_image_is_named(
    damage: Damage, line: str, start: Train, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    overrides = tiny_root(tmp_path / "data")
    write_images(tmp_path / "data", [str(image) for image in range(12)])
    damage(tmp_path / "data")
    grid = [override for override in overrides if not override.startswith("backbone")] + GRID
    assert re.search(line, complain(start, capsys, *grid, "dataset.image_folder=images", "workers=1"))


def test_an_empty_caption_trains(start: Train, tmp_path: Path) -> None:
    overrides = tiny_root(tmp_path / "data")
    captions = tmp_path / "data" / "precomp" / "train_caps.txt"
    captions.write_text("\n".join(["", " ", *captions.read_text(encoding="utf-8").splitlines()[2:]]) + "\n")
    assert start(*overrides) == 0
    assert Path("here/metrics.json").is_file()
