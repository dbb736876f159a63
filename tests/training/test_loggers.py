"""What the loggers keep, read back from their own files."""

import json
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import wandb
from pytorch_lightning.utilities import rank_zero_only
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from wandb.proto.wandb_internal_pb2 import Record, RunRecord

from tests.helpers.tiny_root import tiny_root
from vse_gpo import train
from vse_gpo.reporting.sections import logged_name, shown_sections
from vse_gpo.training.run import written_config

BLOCK, HEADER = 32768, 7
STEP = "trainer/global_step"  # what the dashboard's charts run over
WATCHED = [
    "image_spread",
    "caption_spread",
    "loss_ratio",
    "collision_rate",
    "gradient_norm",
    "pairs_per_second",
    "loss",
]


def run_with(monkeypatch: pytest.MonkeyPatch, folder: Path, *overrides: str) -> None:
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("WANDB_DATA_DIR", str(folder))  # gets the pictures in tables
    monkeypatch.setattr(sys, "argv", ["vse-train", *tiny_root(folder / "data"), *overrides])
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


def wandb_files(folder: Path) -> list[Path]:
    """The ``.wandb`` files under a folder, once they are whole."""
    wandb.teardown()  # waits for W&B's own process, which writes the files
    return sorted(folder.glob("**/wandb/offline-run-*/run-*.wandb"))


def begun(file: Path) -> RunRecord:
    """What a ``.wandb`` file says of its run at the start."""
    [run] = [record.run for record in wandb_records(file) if record.HasField("run")]
    return run


@pytest.fixture(scope="module")
def sweep(tmp_path_factory) -> list[Path]:
    """The ``.wandb`` files of two jobs."""
    folder = tmp_path_factory.mktemp("sweep")
    with pytest.MonkeyPatch.context() as patch:
        run_with(patch, folder, "hydra.mode=MULTIRUN", "logger=wandb", "seed=3,4", f"hydra.sweep.dir={folder}/sweep")
    return wandb_files(folder)


def test_each_job_of_a_sweep_is_a_wandb_run_with_its_config_from_the_start(sweep):
    assert [file.parents[2].name for file in sweep] == ["seed-3", "seed-4"]
    for file, seed in zip(sweep, ["3", "4"], strict=True):
        records = list(wandb_records(file))
        config = {item.key: item.value_json for item in begun(file).config.update}
        assert config["seed"] == seed
        assert '"max_epochs":2' in config["trainer"].replace(" ", "")
        assert [record.exit.exit_code for record in records if record.HasField("exit")] == [0]
        assert (file.parents[2] / "metrics.csv").exists()


def test_the_jobs_of_a_sweep_are_found_together(sweep):
    runs = [begun(file) for file in sweep]
    assert {run.run_group for run in runs} == {"sweep"}
    assert [run.display_name for run in runs] == ["sweep/seed-3", "sweep/seed-4"]
    assert len({run.run_id for run in runs}) == 2
    assert all(list(run.tags) == ["f8k", "butd_region", "bigru", "gpo", "triplet"] for run in runs)


def test_a_wandb_file_holds_every_curve_and_the_best_values(sweep):
    for file in sweep:
        records = list(wandb_records(file))
        logged = {item.nested_key[0] or item.key for record in records for item in record.history.item}
        assert {f"train/{name}" for name in WATCHED} | {"val/rsum", "test/all/rsum"} <= logged
        updates = [item for record in records for item in record.summary.update if item.nested_key]
        summary = {item.nested_key[0]: item.value_json for item in updates}
        best = json.loads((file.parents[2] / "metrics.json").read_text())["val/best_rsum"]
        assert json.loads(summary["val/rsum"]) == {"max": pytest.approx(best)}
        assert json.loads(summary["train/loss"]).keys() == {"min"}


def test_a_wandb_folder_holds_the_pictures_of_the_runs_folder(sweep):
    for file in sweep:
        for kind in ("pooling", "examples"):
            pictures = list(file.parent.glob(f"files/media/images/val/{kind}_[0-9]*.png"))
            drawn = list((file.parents[2] / kind).glob("*.png"))
            assert {picture.read_bytes() for picture in pictures} == {picture.read_bytes() for picture in drawn}
            assert len(pictures) == len(drawn) == 2
        tables = [json.loads(path.read_text()) for path in file.parent.glob("files/media/table/val/*.table.json")]
        assert len(tables) == 2
        for table in tables:
            assert table["columns"] == ["caption", "rank of the true image", "true image", "1", "2", "3", "4", "5"]
            assert [row[0] for row in table["data"]] == [row[0] for row in tables[0]["data"]]  # the same queries
            assert all(1 <= row[1] <= 6 for row in table["data"])
        kept = [record.artifact for record in wandb_records(file) if record.HasField("artifact")]
        cells = [entry.local_path for table in kept for entry in table.manifest.contents if "media/" in entry.path]
        assert len(kept) == 2
        assert all(Path(cell).read_bytes().startswith(b"\x89PNG") for cell in cells)


def test_a_run_logs_everything_that_the_page_and_the_dashboard_show(sweep):
    file = sweep[0]
    logged = {item.nested_key[0] or item.key for record in wandb_records(file) for item in record.history.item}
    columns = (file.parents[2] / "metrics.csv").read_text(encoding="utf-8").splitlines()[0].split(",")
    assert STEP in logged
    for section in shown_sections():
        assert [pattern for pattern in section.patterns if logged_name(pattern, logged) is None] == []
        assert [pattern for pattern in section.lines.values() if logged_name(pattern, columns) is None] == []


def test_a_resumed_run_goes_on_in_wandb_and_a_new_one_does_not(tmp_path, monkeypatch):
    last = f"resume={tmp_path}/first/checkpoints/last.ckpt"
    quick = ["logger=wandb", "test=false", "~callbacks.pooling_curves", "~callbacks.examples"]
    run_with(monkeypatch, tmp_path, *quick, "trainer.max_epochs=1", f"hydra.run.dir={tmp_path}/first")
    run_with(monkeypatch, tmp_path, *quick, last, f"hydra.run.dir={tmp_path}/second")
    run_with(monkeypatch, tmp_path, *quick, last, "logger.wandb.id=other", f"hydra.run.dir={tmp_path}/third")
    first, second, third = (begun(file) for file in wandb_files(tmp_path))
    assert len(first.run_id) == 8
    assert (second.run_id, third.run_id) == (first.run_id, "other")


def test_a_run_that_goes_on_in_its_folder_goes_on_in_wandb(tmp_path, monkeypatch):
    typed = ["logger=wandb", "test=false", "trainer.max_epochs=1", f"hydra.run.dir={tmp_path}/run"]
    run_with(monkeypatch, tmp_path, *typed)
    (tmp_path / "run" / "metrics.json").unlink()  # as if it had been stopped before its end
    for last in (tmp_path / "run" / "checkpoints").glob("last.ckpt"):
        last.unlink()
    run_with(monkeypatch, tmp_path, *typed)
    run_with(monkeypatch, tmp_path, *typed)  # has nothing more to do
    first, second = (begun(file) for file in wandb_files(tmp_path))
    assert first.run_id == second.run_id


def test_the_first_process_alone_reads_the_config_for_its_logger(tmp_path, monkeypatch):
    (tmp_path / "config.yaml").write_text("seed: 3\n", encoding="utf-8")
    assert written_config(str(tmp_path)) == {"seed": 3}
    monkeypatch.setattr(rank_zero_only, "rank", 1)
    assert written_config(str(tmp_path / "not there yet")) is None


def test_tensorboard_holds_the_curves(tmp_path, monkeypatch):
    run_with(monkeypatch, tmp_path, "logger=tensorboard", f"hydra.run.dir={tmp_path}/run")
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard")).Reload()
    assert len(events.Scalars("val/rsum")) == 2
    assert len(events.Scalars("train/loss")) == 6
    assert all(len(events.Scalars(f"train/{name}")) == 6 for name in WATCHED)
    for picture, width in (("val/pooling", 1600), ("val/examples", 954)):
        assert [(image.step, image.width) for image in events.Images(picture)] == [(3, width), (6, width)]
    assert (tmp_path / "run" / "metrics.csv").exists()
