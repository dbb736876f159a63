"""One page on several runs, as a user asks for it; a wrong request writes nothing."""

import json
import sys
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from tests.helpers.small_checkpoint import write_checkpoint
from vse_gpo import report
from vse_gpo.cli.run import config_folder
from vse_gpo.errors import VSEError
from vse_gpo.reporting.run import TEXT_SIZES, drawn_sizes, named_apart, write_report
from vse_gpo.reporting.runs import Run
from vse_gpo.training.run_folder import write_config

REST = {"published": None, "queries": 2, "seed": 0, "accelerator": "cpu"}


def write_run(folder: Path) -> Path:
    """A run on the embedded data set, as far as a report reads it."""
    sizes = ("train=0", "dev=0", "test=6", "size=32", "captions=2")
    with initialize_config_dir(config_folder(), version_base="1.3"):
        config = compose("train", [f"dataset.source.{size}" for size in sizes])
    folder.mkdir()
    dataset = OmegaConf.to_container(config.dataset, resolve=True)
    write_config(folder, {"name": "shapes", "dataset": dataset, "backbone": {"set_sizes": [16]}})
    best = write_checkpoint(folder / "checkpoints" / "best.ckpt")
    scores = {"best_checkpoint": str(best), "test/all/i2t_r1": 16.7, "test/all/rsum": 321.0}
    (folder / "metrics.json").write_text(json.dumps(scores), encoding="utf-8")
    (folder / "metrics.csv").write_text("step,train/loss\n1,2.0\n2,1.0\n", encoding="utf-8")
    return folder


def test_a_run_is_shown_with_its_poolings_and_queries(tmp_path, monkeypatch, capsys):
    folder, out = write_run(tmp_path / "first"), tmp_path / "report.html"
    monkeypatch.setattr(sys, "argv", ["vse-report", str(folder), str(folder), f"out={out}", "accelerator=cpu"])
    report.main()
    assert capsys.readouterr().out == f"written to {out}\n"
    page = out.read_text(encoding="utf-8")
    for shown in ("shapes · first", "shapes · first #2", "images, by set size", "Caption → images: the worst"):
        assert shown in page
    assert "cannot be opened" not in page


def test_without_queries_no_data_are_encoded(tmp_path):
    folder, out = write_run(tmp_path / "first"), tmp_path / "report.html"
    write_report(runs=str(folder), out=str(out), **REST | {"queries": 0})
    page = out.read_text(encoding="utf-8")
    assert "321.0" in page  # what the run itself wrote
    assert "the worst" not in page


def test_why_a_checkpoint_or_its_data_cannot_be_opened_stands_on_the_page(tmp_path):
    broken, moved, out = write_run(tmp_path / "broken"), write_run(tmp_path / "moved"), tmp_path / "report.html"
    (broken / "checkpoints" / "best.ckpt").write_bytes(b"cut")
    source = {"_target_": "vse_gpo.data.split.DiskDataset", "root": str(tmp_path / "gone"), "open_images": None}
    dataset = {
        "name": "own",
        "source": source,
        "image_folder": "images",
        "test_split": "test",
        "test_protocols": ["all"],
    }
    (moved / "config.yaml").unlink()
    write_config(moved, {"name": "moved", "dataset": dataset})
    write_report(runs=[str(broken), str(moved)], out=str(out), **REST)
    page = out.read_text(encoding="utf-8")
    assert "as its best checkpoint cannot be opened" in page
    assert "no queries and no intervals, as its data cannot be opened" in page
    assert str(tmp_path / "gone") in page


def test_runs_of_one_name_are_told_apart(tmp_path):
    one = Run(name="a", folder=tmp_path, settings=None, curves={}, scores={}, best=None)
    assert [run.name for run in named_apart([one] * 3)] == ["a", "a #2", "a #3"]


@pytest.mark.parametrize(
    ("settings", "sizes"),
    [
        ({"callbacks": {"pooling_curves": {"image_sizes": [7], "text_sizes": [3]}}}, ([7], [3])),
        ({"callbacks": {}, "backbone": {"set_sizes": [36]}}, ([36], TEXT_SIZES)),
        ({}, ([], TEXT_SIZES)),
    ],
)
def test_poolings_are_drawn_at_the_runs_own_sizes(settings, sizes):
    assert drawn_sizes(settings) == sizes


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"published": "nowhere"}, "published=nowhere: no such row"),
        ({"queries": -1}, "queries=-1: expected 0 or more"),
        ({}, "no run in it, no folder with a metrics"),
    ],
)
def test_a_wrong_request_writes_nothing(tmp_path, changes, message):
    out = tmp_path / "report.html"
    with pytest.raises(VSEError, match=message):
        write_report(runs=[str(tmp_path)], out=str(out), **REST | changes)
    assert not out.exists()
