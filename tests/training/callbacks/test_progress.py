"""What a user sees while a run goes on."""

import re
from pathlib import Path
from unittest.mock import Mock

import pytest
import pytorch_lightning as pl
import rich
import torch
from pytorch_lightning.callbacks import ModelCheckpoint

from tests.helpers.tiny import save_last, tiny_data, tiny_module, tiny_trainer
from vse_gpo.training.callbacks.progress import Bar, EpochLines, StepLines, rsum_on_dev
from vse_gpo.training.callbacks.throughput import Throughput


def shown(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *, terminal: bool) -> str:
    """What two epochs print."""
    monkeypatch.setenv("TTY_COMPATIBLE", str(int(terminal)))
    monkeypatch.setenv("COLUMNS", "160")
    rich.reconfigure()
    best = ModelCheckpoint(dirpath=folder, monitor="val/rsum", mode="max", save_on_train_epoch_end=True)
    trainer = tiny_trainer(
        folder,
        max_epochs=2,
        enable_progress_bar=True,
        callbacks=[Throughput(), Bar(), StepLines(every=4), EpochLines(), best],
    )
    trainer.fit(tiny_module(), datamodule=tiny_data())
    output = capsys.readouterr()
    assert output.err == ""
    return output.out


def test_a_log_file_gets_one_line_per_epoch_and_one_every_few_steps(tmp_path, monkeypatch, capsys):
    first, *lines = shown(tmp_path, monkeypatch, capsys, terminal=False).splitlines()
    between, epochs = lines[::2], lines[1::2]
    pace = r"loss \d+\.\d{3}, \d+ pairs/s, 0:00:\d\d left"
    assert [bool(re.fullmatch(rf"epoch {e}, step {s}: {pace}", between[e])) for e, s in ((0, 4), (1, 8))] == [True] * 2
    assert re.fullmatch(rf"{tmp_path}: [\d,]+ parameters, 6 steps an epoch on cpu", first)
    line = r"epoch (\d): loss (\d+\.\d{3}), val rsum (\d+\.\d) \(best (\d+\.\d)\), \d+ s, \d+ pairs/s"
    found = [re.fullmatch(line, epoch) for epoch in epochs]
    assert all(found), epochs
    numbers, _, rsums, bests = zip(*[match.groups() for match in found if match], strict=True)
    assert numbers == ("0", "1")
    assert float(bests[1]) == max(map(float, rsums))


@pytest.mark.parametrize(
    ("monitor", "mode", "best"),
    [
        (None, "max", "(best 310.0)"),
        ("val/rsum", "max", "(best 320.0)"),
        ("val/ema/rsum", "max", "(best 330.2 of val/ema/rsum)"),
        ("val/i2t_medr", "min", "(best 4.0 of val/i2t_medr)"),
    ],
)
def test_the_line_has_what_is_evaluated_beside_the_model(monitor, mode, best):
    scores = {"val/rsum": 310.0, "val/ema/rsum": 330.2, "val/embedding/rsum": 305.04, "val/i2t_medr": 4.0}
    known = {"val/rsum": 320.0, "val/ema/rsum": 329.0, "val/i2t_medr": 5.0}
    trainer = Mock(
        spec=pl.Trainer,
        callback_metrics={name: torch.tensor(value) for name, value in {"train/loss": 1.0, **scores}.items()},
        checkpoint_callback=Mock(monitor=monitor, mode=mode, best_model_score=known.get(monitor)),
    )
    assert rsum_on_dev(trainer) == f"val rsum 310.0, ema 330.2, embedding 305.0 {best}"


def test_a_run_that_goes_on_inside_an_epoch_tells_of_the_rest_of_it(tmp_path, capsys):
    tiny_trainer(tmp_path, max_epochs=1, callbacks=[save_last(tmp_path, every_n_steps=4)]).fit(
        tiny_module(), datamodule=tiny_data()
    )
    trainer = tiny_trainer(tmp_path, max_epochs=1, callbacks=[EpochLines()], enable_checkpointing=False)
    trainer.fit(tiny_module(), datamodule=tiny_data(), ckpt_path=tmp_path / "last.ckpt", weights_only=True)
    assert trainer.global_step == 6
    assert "\nepoch 0: loss " in capsys.readouterr().out


def test_a_terminal_also_gets_a_bar(tmp_path, monkeypatch, capsys):
    output = re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", shown(tmp_path, monkeypatch, capsys, terminal=True))
    assert re.search(r"Epoch 1/1 .* 6/6 .* loss: \d+\.\d{3} lr: 1\.0e-0[23] best rsum: \d+\.\d left: 0:00:00", output)
    assert output.count("epoch 0: loss") == 1
    assert "step 4" not in output  # the bar has it
