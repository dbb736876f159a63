"""A whole run, as a user starts it, on a small data set on disk."""

import csv
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from tests.helpers.held import holder
from tests.helpers.tiny_root import tiny_root
from vse_gpo import train
from vse_gpo.evaluation.query_files import read_queries


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run: its folder and what it printed."""
    home = tmp_path_factory.mktemp("home")
    overrides = [*tiny_root(home / "data"), "hydra.run.dir=here"]
    command = [sys.executable, "-m", "vse_gpo.train", *overrides]
    done = subprocess.run(command, cwd=home, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return home / "here", done.stdout.splitlines()


def test_a_run_prints_its_epochs_and_its_result_and_nothing_else(run):
    _, lines = run
    assert "parameters" in lines[0]
    assert [line.partition(":")[0] for line in lines[1:3]] == ["epoch 0", "epoch 1"]
    assert re.fullmatch(r"test rsum: \d+\.\d \(all\)", lines[-1])
    assert lines[3].strip() == "all · 6 images, 12 captions"
    assert [line.split()[1] for line in lines[4:-1] if line.startswith("│")] == ["f8k", "│", "chance"]
    assert all(len(line) <= 80 for line in lines[1:])


def test_the_runs_folder_holds_everything(run):
    folder, lines = run
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    checkpoints = {"checkpoints/best.ckpt", "checkpoints/last.ckpt"}
    pictures = {f"{kind}/epoch_0{epoch}.png" for kind in ("pooling", "examples") for epoch in (0, 1)}
    assert files == {"config.yaml", "metrics.json", "metrics.csv", "queries.npz"} | checkpoints | pictures

    text = (folder / "config.yaml").read_text(encoding="utf-8")
    config = OmegaConf.create(text)
    assert "${" not in text
    assert (config.data.batch_size, config.trainer.max_epochs, config.module.optimization.lr) == (8, 2, 5e-4)

    rows = list(csv.DictReader((folder / "metrics.csv").read_text().splitlines()))
    rsums = [float(row["val/rsum"]) for row in rows if row["val/rsum"]]
    losses = [float(row["train/loss"]) for row in rows if row["train/loss"]]
    metrics = json.loads((folder / "metrics.json").read_text())
    assert (len(rsums), len(losses)) == (2, 2 * 3)
    assert metrics["val/best_rsum"] == pytest.approx(max(rsums))
    assert lines[-1] == f"test rsum: {metrics['test/all/rsum']:.1f} (all)"

    recalls = read_queries(folder).outcomes["all"].metrics()
    assert {f"test/all/{name}": value for name, value in recalls.items()} == pytest.approx(
        {name: value for name, value in metrics.items() if name.startswith("test/")}
    )

    best = torch.load(folder / "checkpoints" / "best.ckpt", weights_only=True)
    last = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    assert (best["epoch"], last["epoch"]) == (rsums.index(max(rsums)), 1)
    assert best["settings"] == OmegaConf.to_container(config)


@pytest.mark.parametrize(
    ("max_epochs", "line"),
    [
        (2, "nothing to train: the run had already ended, epoch 2 of 2; set trainer.max_epochs to train longer"),
        (1, r"resume=\S+: saved in epoch 1, counted from 0, and trainer.max_epochs=1 ends the run before it; [^\n]+"),
    ],
)
def test_a_resumed_run_with_nothing_left_to_train_gives_no_result(run, tmp_path, monkeypatch, capsys, max_epochs, line):
    folder, _ = run
    overrides = [*tiny_root(folder.parent / "data"), f"resume={folder / 'checkpoints' / 'last.ckpt'}"]
    here = [f"trainer.max_epochs={max_epochs}", f"hydra.run.dir={tmp_path / 'here'}"]
    monkeypatch.setattr(sys, "argv", ["vse-train", *overrides, *here])
    with pytest.raises(SystemExit):
        train.main()
    assert re.fullmatch(f"error: {line}\n", capsys.readouterr().err)
    assert not (tmp_path / "here" / "metrics.json").exists()


def test_a_resumed_run_that_is_started_again_goes_on_and_is_left_when_finished(run, tmp_path, monkeypatch, capsys):
    folder, _ = run
    overrides = [*tiny_root(folder.parent / "data"), f"resume={folder / 'checkpoints' / 'last.ckpt'}"]
    here = tmp_path / "here"
    monkeypatch.setattr(sys, "argv", ["vse-train", *overrides, "trainer.max_epochs=4", f"hydra.run.dir={here}"])
    train.main()
    assert "epoch 3" in capsys.readouterr().out
    written = json.loads((here / "metrics.json").read_text())
    train.main()
    assert re.fullmatch(r"\S+: finished before, [^\n]+\n", capsys.readouterr().out)

    (here / "metrics.json").unlink()  # as if it had been stopped in its test
    train.main()
    assert "epoch 2" not in capsys.readouterr().out
    assert json.loads((here / "metrics.json").read_text()) == written


def test_a_second_process_in_the_folder_is_refused(tmp_path, monkeypatch, capsys):
    here = tmp_path / "here"
    monkeypatch.setattr(sys, "argv", ["vse-train", *tiny_root(tmp_path / "data"), f"hydra.run.dir={here}"])
    with holder(here) as process, pytest.raises(SystemExit):
        train.main()
    line = rf"error: {here}: process {process.pid} on \S+ is at work in it; wait for its end, or name another folder\n"
    assert re.fullmatch(line, capsys.readouterr().err)
    assert [path.name for path in here.iterdir()] == [".lock"]


def test_a_run_that_ends_inside_an_epoch_says_what_was_not_validated(tmp_path, monkeypatch, capsys):
    overrides = [*tiny_root(tmp_path / "data"), "~callbacks.examples", "~callbacks.pooling_curves"]
    monkeypatch.setattr(
        sys, "argv", ["vse-train", *overrides, "trainer.max_steps=4", f"hydra.run.dir={tmp_path / 'run'}"]
    )
    train.main()
    assert re.search(r"^epoch 1: loss \S+, not validated, \d+ s", capsys.readouterr().out, re.MULTILINE)
    assert (tmp_path / "run" / "checkpoints" / "last.ckpt").is_file()


def test_a_run_that_ends_before_its_first_validation_is_refused(tmp_path, monkeypatch, capsys):
    here = ["trainer.max_steps=2", f"hydra.run.dir={tmp_path / 'run'}"]
    monkeypatch.setattr(sys, "argv", ["vse-train", *tiny_root(tmp_path / "data"), *here])
    with pytest.raises(SystemExit):
        train.main()
    assert "trainer.max_steps=2 ends the run before its first validation, after batch 3" in capsys.readouterr().err
    assert not (tmp_path / "run" / "checkpoints").exists()


@pytest.mark.parametrize(
    ("protocols", "line"),
    [
        ("[coco_5k]", "protocol coco_5k is defined on 5000 images, found 6; use protocol all"),
        ("[coco5k]", r"unknown protocol coco5k, expected some of all, [^\n]+"),
        ("[]", r"no protocol to test by, [^\n]+"),
    ],
)
def test_a_test_that_cannot_be_done_stops_a_run_before_it_trains(tmp_path, monkeypatch, capsys, protocols, line):
    overrides = [*tiny_root(tmp_path / "data"), f"dataset.test_protocols={protocols}"]
    monkeypatch.setattr(sys, "argv", ["vse-train", *overrides, f"hydra.run.dir={tmp_path / 'here'}"])
    with pytest.raises(SystemExit):
        train.main()
    assert re.fullmatch(f"error: {line}\n", capsys.readouterr().err)
    assert not (tmp_path / "here").exists()


def test_bad_test_data_stop_a_run_before_it_trains(tmp_path, monkeypatch, capsys):
    overrides = tiny_root(tmp_path / "data")
    (tmp_path / "data" / "precomp" / "test_ims.npy").write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["vse-train", *overrides, "hydra.run.dir=here"])
    with pytest.raises(SystemExit) as exit:
        train.main()
    output = capsys.readouterr()
    assert exit.value.code == 1
    assert re.fullmatch(r"error: \S*test_ims\.npy: [^\n]+\n", output.err)
    assert output.out == ""
    assert not Path("here").exists()


@pytest.mark.parametrize("debug", ["fast", "profile"])
def test_debug_runs(tmp_path, monkeypatch, debug):
    monkeypatch.setattr(
        sys,
        "argv",
        [
            "vse-train",
            *(one for one in tiny_root(tmp_path / "data") if "max_epochs" not in one),
            f"debug={debug}",
            "dataset.dev_captions=5",
            f"hydra.run.dir={tmp_path}",
        ],
    )
    train.main()
    steps = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)["global_step"]
    assert steps == {"fast": 2 * 2, "profile": 3}[debug]  # two phases of two steps
    assert (tmp_path / "fit-profile.txt").exists() == (debug == "profile")


def test_overfitting_a_few_captions_succeeds(tmp_path, monkeypatch):
    overrides = [*tiny_root(tmp_path / "data"), "debug=overfit", "dataset.dev_captions=12", "data.train_captions=12"]
    overrides += ["trainer.max_epochs=20", "optimizer.lr=3e-2", "embedding_width=32", f"hydra.run.dir={tmp_path}"]
    pictures = ["~callbacks.examples", "~callbacks.pooling_curves"]
    monkeypatch.setattr(sys, "argv", ["vse-train", *overrides, *pictures])
    train.main()
    assert json.loads((tmp_path / "metrics.json").read_text())["val/best_rsum"] > 590
