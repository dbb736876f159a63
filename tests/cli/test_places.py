"""What the disk lacks is told before anything is read or a hub is asked."""

from importlib import import_module

import huggingface_hub
import pytest

from vse_gpo.cli.places import check_places
from vse_gpo.errors import VSEError

BERT = "experiment=f30k_butd_region"  # its tokeniser and its text encoder come from the hub


@pytest.mark.parametrize(
    ("door", "typed", "line"),
    [
        ("train", [BERT, "dataset.root=no"], "dataset.root=no: no such folder; set dataset.root to the data"),
        ("train", [BERT, "dataset.root=empty"], "empty/precomp/train_caps.txt: no such file or directory"),
        (
            "train",
            ["experiment=f30k_butd_grid", "dataset.root=no", "backbone.network.weights=no.pth"],
            "backbone.network.weights=no.pth: no such file",
        ),
        ("train", [BERT, "dataset.root=empty", "dataset.dense=no.txt"], "dataset.dense=no.txt: no such file"),
        ("train", [BERT, "dataset.root=empty", "dense=extra"], "dense= uses dense captions, but the data set has none"),
        ("train", ["text=bigru", "text.vocabulary=no.json"], "text.vocabulary=no.json: no such file"),
        ("evaluate", ["checkpoint=org/name", "dataset=f30k", "dataset.root=no"], "dataset.root=no: no such folder"),
        ("evaluate", ["checkpoint=[org/name,./no]", "dataset=f30k", "dataset.root=empty"], "./no: no such file"),
        ("evaluate", ["checkpoint=org/name", "dataset=f30k", "dataset.root=empty"], "empty/precomp/test_caps.txt: no"),
        ("evaluate", ["checkpoint=org/name", "vocabulary=no.json"], "vocabulary=no.json: no such file"),
        ("extract", ["dataset.root=no", "out=o", "backbone.network.name=resnet18"], "dataset.root=no: no such folder"),
        ("index", ["images=no", "model=org/name", "out=o"], "images="),
        ("index", ["images=empty", "model=org/name", "out=o"], "images="),
        ("export", ["model=org/name", "out=full"], "full: exists and is not empty, expected a new folder"),
        ("convert", ["org/name", "full"], "full: exists and is not empty, expected a new folder"),
        ("convert", ["org/name", "o", "trunk=no"], "trunk=no: no such folder"),
    ],
)
def test_the_disk_comes_before_the_hub(error_of, monkeypatch, tmp_path, door, typed, line):
    monkeypatch.setattr(huggingface_hub, "model_info", lambda *_, **__: pytest.fail("asked the hub"))
    (tmp_path / "empty" / "precomp").mkdir(parents=True)
    (tmp_path / "full" / "folder").mkdir(parents=True)
    assert error_of(import_module(f"vse_gpo.{door}").main, *typed).startswith(line)


def test_places_that_are_there_or_follow_another_setting_are_taken(tmp_path):
    (tmp_path / "v.json").touch()
    settings = {"vocabulary": str(tmp_path / "v.json"), "trunk": str(tmp_path), "weights": None}
    check_places(settings | {"part": {"vocabulary": "${vocabulary}", "weights": {"image": 0.5}}})
    for name, place in (("vocabulary", tmp_path), ("trunk", tmp_path / "v.json")):
        with pytest.raises(VSEError, match=f"{name}=.*: no such f"):
            check_places({name: str(place)})
