"""What the loggers keep, read back from their own files."""

import struct
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import wandb
from pytorch_lightning.utilities import rank_zero_only
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from wandb.proto.wandb_internal_pb2 import Record

from tests.tiny_root import tiny_root
from vse_gpo import train

BLOCK, HEADER = 32768, 7


def run_with(monkeypatch: pytest.MonkeyPatch, folder: Path, *overrides: str) -> None:
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setattr(sys, "argv", ["vse-train", *overrides, *tiny_root(folder / "data")])
    train.main()


def wandb_records(path: Path) -> Iterator[Record]:
    """The records of a ``.wandb`` file: LevelDB's log format, seven bytes of W&B's own first."""
    content, record = path.read_bytes(), b""
    at = HEADER
    while at + HEADER <= len(content):
        if BLOCK - at % BLOCK < HEADER:  # a block's last bytes are left empty
            at += BLOCK - at % BLOCK
            continue
        length, kind = struct.unpack_from("<HB", content, at + 4)
        record += content[at + HEADER : at + HEADER + length]
        at += HEADER + length
        if kind in (1, 4):  # whole, or the last part
            yield Record.FromString(record)
            record = b""


def test_each_job_of_a_sweep_is_a_wandb_run_with_its_config_from_the_start(tmp_path, monkeypatch):
    run_with(monkeypatch, tmp_path, "-m", "logger=wandb", "seed=3,4", f"hydra.sweep.dir={tmp_path}/sweep")
    wandb.teardown()  # waits for W&B's own process, which writes the files
    files = sorted(tmp_path.glob("sweep/*/wandb/offline-run-*/run-*.wandb"))
    assert [file.parents[2].name for file in files] == ["0_f8k", "1_f8k"]
    for file, seed in zip(files, ["3", "4"], strict=True):
        records = list(wandb_records(file))
        [started] = [record.run for record in records if record.HasField("run")]
        config = {item.key: item.value_json for item in started.config.update}
        assert config["seed"] == seed
        assert '"max_epochs":2' in config["trainer"].replace(" ", "")
        logged = {item.nested_key[0] or item.key for record in records for item in record.history.item}
        assert {"val/rsum", "test/all/rsum", "val/pooling"} <= logged
        pictures = sorted(file.parent.glob("files/media/images/val/pooling_*.png"))
        drawn = sorted((file.parents[2] / "pooling").glob("*.png"))
        assert {picture.read_bytes() for picture in pictures} == {picture.read_bytes() for picture in drawn}
        assert len(pictures) == len(drawn) == 2
        assert [record.exit.exit_code for record in records if record.HasField("exit")] == [0]
        assert (file.parents[2] / "metrics.csv").exists()


def test_the_first_process_alone_reads_the_config_for_its_logger(tmp_path, monkeypatch):
    (tmp_path / "config.yaml").write_text("seed: 3\n", encoding="utf-8")
    assert train.written_config(str(tmp_path / "config.yaml")) == {"seed": 3}
    monkeypatch.setattr(rank_zero_only, "rank", 1)
    assert train.written_config(str(tmp_path / "not there yet")) is None


def test_tensorboard_holds_the_curves(tmp_path, monkeypatch):
    run_with(monkeypatch, tmp_path, "logger=tensorboard", f"hydra.run.dir={tmp_path}/run")
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard")).Reload()
    assert len(events.Scalars("val/rsum")) == 2
    assert len(events.Scalars("train/loss")) == 6
    assert [(image.step, image.width) for image in events.Images("val/pooling")] == [(3, 1600), (6, 1600)]
    assert (tmp_path / "run" / "metrics.csv").exists()
