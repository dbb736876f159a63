"""The moving average of the weights: what it is, that training does not notice it, and that nothing of it is lost."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from torch import Tensor

from tests.helpers.tiny import (
    DECAY,
    WARMUP_POWER,
    WIDTH,
    TinySource,
    averaged,
    tiny_data,
    tiny_module,
    tiny_trainer,
    weights,
)
from tests.helpers.tiny_root import tiny_root
from vse_gpo import train
from vse_gpo.checkpoints.pickles import model_weights
from vse_gpo.checkpoints.sources import load_model
from vse_gpo.encoder import ResidualProjection
from vse_gpo.evaluate import main as evaluate
from vse_gpo.retrieval import image_caption_recalls
from vse_gpo.training.callbacks.averaging import AveragedWeights
from vse_gpo.training.module import RetrievalModule


def module_with_statistics() -> RetrievalModule:
    """The tiny module with a BatchNorm that counts its batches."""
    module = tiny_module()
    torch.manual_seed(1)
    module.model.image_encoder.projection = ResidualProjection(WIDTH, 8)
    return module


def average_of(callback: AveragedWeights) -> dict[str, Tensor]:
    average: dict[str, Tensor] = callback.state_dict()["average"]
    return {name: value.clone() for name, value in average.items()}


class History(pl.Callback):
    """The weights after every optimizer step, and the metrics after every epoch."""

    def __init__(self) -> None:
        self.weights: dict[int, dict[str, Tensor]] = {}
        self.metrics: list[dict[str, float]] = []

    def on_train_batch_end(self, trainer: pl.Trainer, module: RetrievalModule, *rest: Any) -> None:
        if trainer.global_step > 0:
            self.weights.setdefault(trainer.global_step, weights(module))

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self.metrics.append({name: float(value) for name, value in trainer.callback_metrics.items()})


def fitted(folder: Path, *callbacks: pl.Callback, **changes: Any) -> RetrievalModule:
    module = module_with_statistics()
    tiny_trainer(folder, callbacks=[*callbacks], enable_checkpointing=bool(callbacks), **changes).fit(
        module, datamodule=tiny_data()
    )
    return module


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Three epochs: the folder, the trained module, its average, what happened on the way, and two checkpoints."""
    folder = tmp_path_factory.mktemp("run")
    average, history = averaged(folder), History()
    chosen = ModelCheckpoint(dirpath=folder, filename="chosen", monitor="val/ema/rsum", mode="max")
    inside = ModelCheckpoint(dirpath=folder, filename="{step}", every_n_train_steps=8, save_top_k=-1)
    return folder, fitted(folder, average, history, chosen, inside), average, history, chosen


def plain_average(history: dict[int, dict[str, Tensor]]) -> dict[str, Tensor]:
    """Number by number, from the first step's weights on."""
    steps = sorted(history)
    average = {name: value.double() for name, value in history[steps[0]].items()}
    for step in steps[1:]:
        decay = min(DECAY, 1 - step**-WARMUP_POWER)
        for name, value in history[step].items():
            if value.is_floating_point():
                average[name] = decay * average[name] + (1 - decay) * value.double()
            else:
                average[name] = value.double()
    return average


@pytest.mark.parametrize("accumulated", [1, 4])
def test_the_average_equals_a_plain_loop(run, accumulated, tmp_path):
    _, _, average, history, _ = run
    if accumulated > 1:
        average, history = averaged(tmp_path), History()
        fitted(tmp_path, average, history, accumulate_grad_batches=accumulated)
        assert max(history.weights) == 6
    found, expected = average_of(average), plain_average(history.weights)
    counters = [name for name, value in found.items() if not value.is_floating_point()]
    assert counters == ["image_encoder.projection.mlp.1.num_batches_tracked"]
    assert found.keys() == expected.keys()
    for name, value in found.items():
        torch.testing.assert_close(value.double(), expected[name], rtol=1e-5, atol=1e-6)


def test_training_does_not_notice_it(run, tmp_path):
    _, module, average, _, _ = run
    alone = weights(fitted(tmp_path))
    assert all(torch.equal(value, alone[name]) for name, value in weights(module).items())
    assert not all(torch.equal(value, alone[name]) for name, value in average_of(average).items())
    assert len(list(module.parameters())) == len(list(module.model.parameters()))


def recalls(module: RetrievalModule, state: dict[str, Tensor]) -> dict[str, float]:
    """What the weights give on dev, encoded all at once."""
    model = module_with_statistics().model.eval()
    model.load_state_dict(state)
    split = TinySource().split("dev")
    with torch.inference_mode():
        images = model.encode_images([split.images[row] for row in range(len(split.images))])
        captions = model.encode_captions(split.captions)
    return image_caption_recalls(images, captions, split.caption_to_image)


def test_both_are_evaluated_after_every_epoch(run):
    _, module, average, history, _ = run
    names = {name.removeprefix("val/") for name in history.metrics[0] if name.startswith("val/")}
    assert len(names) == 22
    assert {f"ema/{name}" for name in names if not name.startswith("ema/")} < names
    for prefix, state in (("val/", weights(module)), ("val/ema/", average_of(average))):
        expected = recalls(module, state)
        assert {name: history.metrics[-1][prefix + name] for name in expected} == pytest.approx(expected)
    assert any(metrics["val/rsum"] != metrics["val/ema/rsum"] for metrics in history.metrics)


def test_a_checkpoint_may_follow_either(run):
    folder, _, average, history, chosen = run
    rsums = [metrics["val/ema/rsum"] for metrics in history.metrics]
    assert float(chosen.best_model_score) == float(average.best.best_model_score) == pytest.approx(max(rsums))
    best = torch.load(folder / "chosen.ckpt", weights_only=True)
    kept = torch.load(folder / "best_ema.ckpt", weights_only=True)
    assert best["epoch"] == kept["epoch"] == rsums.index(max(rsums))
    own = best["callbacks"]["AveragedWeights"]["average"]
    assert all(torch.equal(value, own[name]) for name, value in model_weights(kept["state_dict"]).items())
    assert kept["settings"] == best["settings"]


def test_the_test_gives_both_each_from_its_own_best_epoch(run):
    folder, *_ = run
    again = averaged(folder)
    module = module_with_statistics()
    trainer = tiny_trainer(folder, callbacks=[again], enable_checkpointing=False)
    trainer.test(module, datamodule=tiny_data(), ckpt_path=folder / "step=8.ckpt", weights_only=True, verbose=False)
    inside = torch.load(folder / "step=8.ckpt", weights_only=True)
    kept = torch.load(inside["callbacks"]["AveragedWeights"]["best"]["best_model_path"], weights_only=True)
    for prefix, state in (("test/all/", inside["state_dict"]), ("test/ema/all/", kept["state_dict"])):
        expected = recalls(module, model_weights(state))
        found = {name: float(trainer.callback_metrics[prefix + name]) for name in expected}
        assert found == pytest.approx(expected)


def test_a_resumed_average_ends_bit_equal(run, tmp_path):
    folder, trained, average, _, _ = run
    module, again = module_with_statistics(), averaged(tmp_path)
    trainer = tiny_trainer(tmp_path, callbacks=[again])
    trainer.fit(module, datamodule=tiny_data(), ckpt_path=folder / "step=8.ckpt", weights_only=True)
    expected = average_of(average)
    assert all(torch.equal(value, expected[name]) for name, value in average_of(again).items())
    assert all(torch.equal(value, weights(trained)[name]) for name, value in weights(module).items())


def test_a_run_may_begin_to_average_when_it_resumes(tmp_path):
    fitted(tmp_path, ModelCheckpoint(dirpath=tmp_path, filename="plain"), max_epochs=1)
    module, average, history = module_with_statistics(), averaged(tmp_path), History()
    trainer = tiny_trainer(tmp_path, callbacks=[average, history], max_epochs=2)
    trainer.fit(module, datamodule=tiny_data(), ckpt_path=tmp_path / "plain.ckpt", weights_only=True)
    start = torch.load(tmp_path / "plain.ckpt", weights_only=True)
    expected = plain_average({start["global_step"]: model_weights(start["state_dict"]), **history.weights})
    for name, value in average_of(average).items():
        torch.testing.assert_close(value.double(), expected[name], rtol=1e-5, atol=1e-6)


def test_a_whole_run_leaves_a_checkpoint_that_evaluates_as_the_test_did(tmp_path, monkeypatch):
    command = ["vse-train", *tiny_root(tmp_path / "data"), "callbacks=[default,ema]", f"hydra.run.dir={tmp_path}/run"]
    monkeypatch.setattr(sys, "argv", command)
    train.main()
    tested = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert len([name for name in tested if name.startswith("test/ema/all/")]) == 11
    checkpoints = tmp_path / "run" / "checkpoints"
    assert sorted(path.name for path in checkpoints.iterdir()) == ["best.ckpt", "best_ema.ckpt", "last.ckpt"]
    assert tested["best_checkpoint"] == str(checkpoints / "best.ckpt")
    data = ["dataset=f30k", f"dataset.root={tmp_path}/data", "workers=0", "accelerator=cpu", "protocols=[all]"]
    for name, prefix in (("best", "test/all"), ("best_ema", "test/ema/all")):
        typed = [f"checkpoint={checkpoints / name}.ckpt", *data, f"hydra.run.dir={tmp_path / name}"]
        monkeypatch.setattr(sys, "argv", ["vse-evaluate", *typed])
        evaluate()
        (found,) = json.loads((tmp_path / name / "metrics.json").read_text()).values()
        assert found["all"]["metrics"]["rsum"] == pytest.approx(tested[f"{prefix}/rsum"])
    trained, average = (load_model(checkpoints / f"{name}.ckpt").state_dict() for name in ("best", "best_ema"))
    assert any(not torch.equal(value, average[name]) for name, value in trained.items())
