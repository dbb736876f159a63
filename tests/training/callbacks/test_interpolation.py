"""Weights between the start of a run and the trained ones: evaluated beside these, and not noticed by the training."""

from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor

from tests.helpers.dual_training import dual_data, dual_module
from tests.helpers.tiny import averaged, save_last, tiny_trainer, weights
from tests.helpers.tiny_duals import dual_folder
from vse_gpo.checkpoints.interpolation import interpolated_weights
from vse_gpo.checkpoints.sources import load_model, saved_weights
from vse_gpo.errors import VSEError
from vse_gpo.model import VSE
from vse_gpo.retrieval import image_caption_recalls
from vse_gpo.storage.adapters import merged_weights
from vse_gpo.training.callbacks.interpolation import InterpolatedWeights
from vse_gpo.training.lora import Lora
from vse_gpo.training.module import RetrievalModule

ALPHAS = [0.0, 0.5, 1.0]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return dual_folder("clip", tmp_path_factory.mktemp("clip") / "model")


class Metrics(pl.Callback):
    """The metrics after every epoch."""

    def __init__(self) -> None:
        self.seen: list[dict[str, float]] = []

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self.seen.append({name: float(value) for name, value in trainer.callback_metrics.items()})


def wise(home: Path) -> InterpolatedWeights:
    return InterpolatedWeights(alphas=ALPHAS, path=str(home / "start.ckpt"))


def adapted(folder: Path) -> RetrievalModule:
    module = dual_module(folder)
    Lora(rank=2, alpha=4.0)(module.model)
    return module


@pytest.fixture(scope="module")
def run(folder, tmp_path_factory):
    """Two epochs and a test: the folder, the trained module, its metrics, and what was evaluated beside it."""
    home, metrics = tmp_path_factory.mktemp("run"), Metrics()
    module, beside = adapted(folder), wise(home)
    trainer = tiny_trainer(home, callbacks=[beside, averaged(home), save_last(home), metrics], max_epochs=2)
    trainer.fit(module, datamodule=dual_data(module.model))
    trainer.test(module, datamodule=dual_data(module.model), verbose=False)
    metrics.seen.append({name: float(value) for name, value in trainer.callback_metrics.items()})
    return home, module, metrics.seen, beside


def recalls(model: VSE, state: dict[str, Tensor]) -> dict[str, float]:
    model.load_state_dict(state)
    split = dual_data(model).split("test")
    images = model.encode_images([split.images[row] for row in range(len(split.images))])
    return image_caption_recalls(images, model.encode_captions(split.captions), split.caption_to_image)


def test_every_share_is_evaluated_beside_the_trained_weights(run, folder):
    home, module, seen, beside = run
    start, end = saved_weights(home / "start.ckpt"), merged_weights(weights(module))
    model = dual_module(folder).model
    for alpha in ALPHAS:
        state = interpolated_weights(start, end, alpha)
        found = beside._models[alpha].state_dict()
        assert all(torch.equal(value, found[name]) for name, value in state.items())
        expected = recalls(model, state)
        for metrics, prefix in ((seen[-2], f"val/wise_{alpha:g}/"), (seen[-1], f"test/wise_{alpha:g}/all/")):
            assert {name: metrics[prefix + name] for name in expected} == pytest.approx(expected)
    zero_shot = [metrics["val/wise_0/rsum"] for metrics in seen[:-1]]
    assert len(set(zero_shot)) == 1
    assert all(metrics["val/wise_1/rsum"] == metrics["val/rsum"] for metrics in seen[:-1])


def test_the_start_is_kept_as_a_model(run, folder):
    home, *_ = run
    found, expected = load_model(home / "start.ckpt"), merged_weights(weights(adapted(folder)))
    assert all(torch.equal(value, expected[name]) for name, value in found.state_dict().items())


def test_training_does_not_notice_it_and_a_resumed_run_has_the_same_start(run, folder, tmp_path):
    home, module, seen, _ = run
    alone = adapted(folder)
    tiny_trainer(tmp_path, max_epochs=1).fit(alone, datamodule=dual_data(alone.model))
    (tmp_path / "start.ckpt").symlink_to(home / "start.ckpt")
    resumed, metrics, again = adapted(folder), Metrics(), tmp_path / "again"
    trainer = tiny_trainer(again, callbacks=[wise(again), metrics], max_epochs=2)
    with pytest.raises(VSEError, match=r"no start\.ckpt, expected the weights that the run started from"):
        trainer.fit(resumed, datamodule=dual_data(resumed.model), ckpt_path=tmp_path / "last.ckpt", weights_only=True)
    (tmp_path / "start.ckpt").unlink()
    (tmp_path / "start.ckpt").write_bytes((home / "start.ckpt").read_bytes())
    resumed = adapted(folder)
    trainer = tiny_trainer(again, callbacks=[wise(again), metrics], max_epochs=2)
    trainer.fit(resumed, datamodule=dual_data(resumed.model), ckpt_path=tmp_path / "last.ckpt", weights_only=True)
    assert metrics.seen[-1] == {name: value for name, value in seen[-2].items() if "ema" not in name}
    assert (again / "start.ckpt").read_bytes() == (home / "start.ckpt").read_bytes()
    expected = weights(module)
    assert all(torch.equal(value, expected[name]) for name, value in weights(resumed).items())


def test_shares_are_told_apart():
    with pytest.raises(VSEError, match=r"alpha=2, expected 0, the start, to 1, the end"):
        InterpolatedWeights(alphas=[0.5, 2], path="start.ckpt")
    with pytest.raises(VSEError, match=r"callbacks\.wise\.alphas: 0\.5, 0\.5, expected each share once"):
        InterpolatedWeights(alphas=[0.5, 0.5], path="start.ckpt")
