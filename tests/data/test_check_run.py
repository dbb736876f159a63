"""The command on runs and data sets: all rows at once, and what may be fetched from a server on this machine."""

import hashlib
import json
import sys
import threading
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import yaml
from huggingface_hub import constants

from tests.helpers.on_disk import CAPTIONS, FOLDER, write_features, write_images, write_texts
from vse_gpo import check_data as door
from vse_gpo.data import addresses, check_run
from vse_gpo.data.addresses import Address
from vse_gpo.data.check_run import annotation_needs, check_data, fetch_missing, fetch_part
from vse_gpo.data.findings import RUN, Finding, Need
from vse_gpo.errors import VSEError

Run = Callable[..., int]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run the command; gives its exit status."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))

    def start(*typed: str) -> int:
        monkeypatch.setattr(sys, "argv", ["vse-check-data", *typed])
        try:
            door.main()
        except SystemExit as end:
            return int(end.code or 0)
        return 0

    return start


def test_a_run_is_checked_as_a_whole_before_anything_is_there(run, tmp_path, capsys):
    assert run("experiment=coco_imagenet_res152_grid_bigru") == 1
    output = capsys.readouterr()
    for row in ("captions", "images", "weights", "vocabulary", "annotations"):
        assert f" {row} " in output.out
    assert " features " not in output.out  # of which this run reads none
    for text in (
        "dataset.root is not set; add dataset.root=DIR",
        "text.vocabulary is not set",
        "from COCO's training images of 2014, 13.5 GB: http://images.cocodataset.org/zips/train2014.zip",
        "vse-check-data experiment=coco_imagenet_res152_grid_bigru fetch=true",
        "kaggle datasets download kuanghueilee/scan-features",
        "https://download.pytorch.org/models/resnet152-394f9c45.pth",
    ):
        assert text in output.out
    assert output.err == "error: missing or wrong for training: captions of train, dev, testall\n"
    assert [*tmp_path.iterdir()] == []


DATASET = {
    **{"name": "f8k", "image_folder": FOLDER, "dense": None, "sources": {"captions": "of Hodosh"}},
    **{"train_split": "train", "dev_split": "train", "test_split": "train"},
    "expected": {"splits": None, "features": None},
}


COCO = DATASET | {"name": "coco"}


def check(root: str | Path, **changed: object) -> None:
    settings = {"inputs": "any", "rows": 2, "decode": False, "cxc": None, "find_needs": None, "fetch": False}
    check_data(**{"dataset": DATASET | {"root": str(root)}, "fetch_command": "fetch"} | settings | changed)


def test_a_run_that_lacks_nothing_says_so(tmp_path, capsys):
    write_texts(tmp_path)
    write_features(tmp_path, np.random.default_rng(0).random((3, 4, 8), dtype=np.float32))
    need = Finding(split=RUN, part="text encoder", expected="bert")
    check(tmp_path, inputs="features", find_needs=lambda: [Need(need)])
    output = capsys.readouterr().out
    assert output.endswith("everything is there\n")
    assert " images " not in output.replace(" images, ", "")
    need = replace(need, problem="no bert", optional=True)
    check(tmp_path, inputs="features", find_needs=lambda: [Need(need)])
    assert capsys.readouterr().out.endswith("nothing is missing to start\n")
    check(tmp_path, dataset={"name": "shapes"}, find_needs=list)
    assert capsys.readouterr().out.endswith("everything is there; dataset=shapes has no folder to check\n")


def test_a_data_set_is_checked_without_a_run(tmp_path, capsys):
    write_texts(tmp_path)
    write_images(tmp_path, list(CAPTIONS))
    check(tmp_path)
    line = "ready to train grid backbones; region backbones lack features of train\n"
    assert capsys.readouterr().out.endswith(line)
    counts = {"splits": {"train": {"images": 6000, "captions": 30000}}, "features": None}
    with pytest.raises(VSEError, match=r"^missing or wrong for training: captions of train$"):
        check(tmp_path, dataset=DATASET | {"root": str(tmp_path), "expected": counts})
    shown = capsys.readouterr().out
    assert "6,000 images" in shown
    assert "captions: of Hodosh" in shown
    assert {path.name for path in tmp_path.iterdir()} == {"precomp", FOLDER, "id_mapping.json"}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"dataset": {"name": "shapes"}},
            "dataset=shapes has no folder to check: what it reads is checked when a run begins; set experiment=",
        ),
        ({"inputs": "pixels"}, "inputs=pixels, expected any, features or images"),
        ({"dataset": DATASET | {"root": "???"}}, "dataset.root must be set; add dataset.root=…, or experiment=…"),
        (
            {"fetch": True, "dataset": COCO | {"root": "???"}, "find_needs": list},
            "fetch=true needs a folder for the data",
        ),
    ],
)
def test_what_cannot_be_checked_is_refused(changed, message, tmp_path):
    with pytest.raises(VSEError, match=message):
        check(tmp_path, **changed)


def test_a_word_may_mean_an_experiment(run, capsys):
    assert run("coco_wsl_grid") == 1
    line = "coco_wsl_grid: cannot be read as name=value; type experiment=coco_wsl_grid"
    assert capsys.readouterr().err == f"error: {line}\n"


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a folder ``served``, whose files stand for those of coco."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    folder = tmp_path / "served"
    folder.mkdir()
    splits = ["train", "restval", "val", "test"]
    images = [
        {"imgid": row, "cocoid": 10 * row, "filepath": "val2014", "filename": f"{row}.jpg", "split": split}
        | {"sentences": [{"raw": f"{row} {n}"} for n in range(6)]}
        for row, split in enumerate(splits)
    ]
    with zipfile.ZipFile(folder / "captions.zip", "w") as content:
        content.writestr("dataset_coco.json", json.dumps({"images": images, "dataset": "coco"}))
    with zipfile.ZipFile(folder / "val2014.zip", "w") as content:
        for row in range(4):
            content.writestr(f"val2014/{row}.jpg", b"x")
    (folder / "sits_test.csv").write_bytes(b"scores")
    handler = partial(SimpleHTTPRequestHandler, directory=str(folder))
    monkeypatch.setattr(SimpleHTTPRequestHandler, "log_message", lambda *_: None)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def entry(served: str, folder: Path, name: str, **rest: str) -> dict[str, object]:
    data = (folder / "served" / name).read_bytes()
    known = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    return {"what": name, "address": f"{served}/{name}", "seen": "2026-01-02", **known, **rest}


def test_fetch_makes_a_data_set_whole(served, tmp_path, monkeypatch, capsys):
    known = {
        "captions": [entry(served, tmp_path, "captions.zip", prepare="dataset_coco.json")],
        "images": [entry(served, tmp_path, "val2014.zip", unpack="images/val2014")],
        "annotations": [entry(served, tmp_path, "sits_test.csv", to="cxc/sits_test.csv")],
    }
    (tmp_path / "addresses.yaml").write_text(yaml.safe_dump({"coco": known}))
    monkeypatch.setattr(addresses, "ADDRESSES", tmp_path / "addresses.yaml")
    splits = {"dev_split": "dev", "test_split": "testall", "image_folder": "images"}
    dataset = DATASET | splits | {"name": "coco", "root": str(tmp_path / "data")}
    check(tmp_path, dataset=dataset, inputs="images", find_needs=list, fetch=True)
    shown = capsys.readouterr().out
    assert "testall: 1 images, 5 captions" in shown
    files = {
        path.relative_to(tmp_path / "data").as_posix() for path in (tmp_path / "data").rglob("*") if path.is_file()
    }
    assert {name for name in files if not name.startswith("precomp")} == {
        *(f"images/val2014/{row}.jpg" for row in range(4)),
        *("id_mapping.json", "cxc/sits_test.csv", "downloads/captions.zip", "downloads/dataset_coco.json"),
    }


def test_models_of_a_run_are_fetched_from_their_hubs(served, tmp_path, monkeypatch):
    (tmp_path / "served" / "resnet.pth").write_bytes(b"weights")
    asked, cached = [], iter([None, tmp_path])
    monkeypatch.setattr(check_run, "fetch_model", lambda name, _setting, patterns: asked.append((name, patterns[-1])))
    monkeypatch.setattr(check_run, "cached_model", lambda _: next(cached))
    missing = Finding(split=RUN, part="weights", expected="", problem="none")
    source = Address(what="", address=f"{served}/resnet.pth", seen="")
    needs = [
        Need(missing, hub="org/old"),
        Need(missing, hub="org/new"),
        Need(replace(missing, problem=None), hub="org/there"),
        Need(missing, [source], file=tmp_path / "checkpoints" / "resnet.pth"),
    ]
    fetch_missing([], needs, {}, None, "any")
    assert asked == [("org/old", "*.safetensors"), ("org/old", "*.bin"), ("org/new", "*.safetensors")]
    assert (tmp_path / "checkpoints" / "resnet.pth").read_bytes() == b"weights"


def test_captions_are_not_put_beside_features_of_another_order(served, tmp_path):
    source = Address(what="", address=f"{served}/captions.zip", seen="", prepare="dataset_coco.json")
    (tmp_path / "data" / "precomp").mkdir(parents=True)
    (tmp_path / "data" / "precomp" / "train_ims.npy").touch()
    with pytest.raises(VSEError, match="features are there without their captions, which must come from where"):
        fetch_part(source, tmp_path / "data")
    assert not (tmp_path / "data" / "downloads").exists()


def test_annotations_are_looked_for_where_they_are_named(tmp_path):
    cxc = Address(what="CxC", address="", seen="", to="cxc/sits_test.csv")
    (tmp_path / "cxc").mkdir()
    (tmp_path / "cxc" / "sits_test.csv").write_bytes(b"x")
    for folder, named in ((tmp_path, None), (None, str(tmp_path / "cxc"))):
        (found,) = annotation_needs([cxc], folder, named)
        assert found == Need(
            Finding(
                split="–",
                part="annotations",
                expected="CxC, to evaluate",
                found=f"{tmp_path / 'cxc' / 'sits_test.csv'}, 0.0 MB",
                optional=True,
            )
        )
    (missing,) = annotation_needs([cxc], None, None)
    assert missing.finding.problem == "cxc/sits_test.csv: no such file"
    assert check_run.ECCV == "eccv_caption"
