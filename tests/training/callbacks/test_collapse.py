"""Collapsed embeddings: their signs, and what a run answers."""

from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import nn

from tests.helpers.tiny import save_last, tiny_data, tiny_module, tiny_optimization, tiny_trainer, weights
from vse_gpo.errors import VSEError
from vse_gpo.losses import InfoNCE, SigmoidLoss, TripletLoss
from vse_gpo.training.callbacks.collapse import Collapse, Signs, collision_rate, signs_of_collapse, spread
from vse_gpo.training.module import RetrievalModule
from vse_gpo.training.phases import Phases

HARDEST = [{"from_epoch": 0, "negatives": "hardest"}]
POINT = torch.tensor([0.6, 0.8])


class Point(nn.Module):
    """Embeds everything nearly alike."""

    def forward(self, pooled: torch.Tensor) -> torch.Tensor:
        return 1e-4 * pooled + 1.0


def collapsing_module(**changes: Any) -> RetrievalModule:
    module = tiny_module(phases=Phases(HARDEST), optimization=tiny_optimization(lr=1e-5), **changes)
    for encoder in (module.model.image_encoder, module.model.text_encoder):
        encoder.projection = nn.Sequential(encoder.projection, Point())
    return module


def watch(**changes: Any) -> Collapse:
    return Collapse(**({"on_collapse": "warn", "spread": 0.01, "tolerance": 0.02, "patience": 3} | changes))


class Negatives(pl.Callback):
    """Which negatives counted in every step, and what was logged."""

    def __init__(self) -> None:
        self.counted: list[str] = []
        self.logged: list[dict[str, float]] = []

    def on_train_batch_start(self, trainer: pl.Trainer, module: RetrievalModule, *rest: Any) -> None:
        self.counted.append(module.phase.negatives)

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self.logged.append({name: float(value) for name, value in trainer.callback_metrics.items()})


def fit(
    folder: Path, module: RetrievalModule, *callbacks: pl.Callback, resume: Path | None = None, **changes: Any
) -> pl.Trainer:
    trainer = tiny_trainer(folder, callbacks=[*callbacks, save_last(folder)], **({"max_epochs": 4} | changes))
    trainer.fit(module, datamodule=tiny_data(), ckpt_path=resume, weights_only=True)
    return trainer


@pytest.mark.parametrize("size", [2, 7])
def test_the_spread_is_one_less_the_mean_cosine_of_a_plain_loop(size):
    embeddings = nn.functional.normalize(torch.randn(size, 5, generator=torch.Generator().manual_seed(size)), dim=1)
    cosines = [float(embeddings[i] @ embeddings[j]) for i in range(size) for j in range(size) if i != j]
    assert float(spread(embeddings)) == pytest.approx(1 - sum(cosines) / len(cosines), abs=1e-6)


def test_a_point_has_no_spread_and_orthogonal_embeddings_have_all():
    assert float(spread(POINT.expand(6, 2))) == pytest.approx(0, abs=1e-6)
    assert float(spread(torch.eye(6))) == 1


@pytest.mark.parametrize(("rows", "rate"), [([1, 2, 3], 0.0), ([1, 2, 1, 3], 0.5), ([4, 4], 1.0), ([2, 2, 2, 5], 0.75)])
def test_a_pair_collides_if_its_image_occurs_again(rows, rate):
    assert float(collision_rate(torch.tensor(rows))) == rate


@pytest.mark.parametrize("loss", [TripletLoss(), InfoNCE(), InfoNCE(margin=0.3), SigmoidLoss()])
@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("negatives", ["all", "hardest"])
def test_any_loss_of_equal_embeddings_is_that_of_a_collapse(tmp_path, loss, masked, negatives):
    module = tiny_module(loss=loss, phases=Phases([{"from_epoch": 0, "negatives": negatives}]))
    module.trainer = tiny_trainer(tmp_path)
    images, captions = POINT.expand(5, 2), torch.tensor([1.0, 0.0]).expand(5, 2)
    rows = torch.tensor([0, 1, 1, 2, 3])
    not_negative = rows[:, None] == rows[None, :] if masked else None
    found = module.objective({"embedding": images @ captions.T}, module.phase.hardest, not_negative).detach()
    if (negatives, isinstance(loss, TripletLoss)) == ("hardest", True):
        assert float(found) == pytest.approx(2 * 5 * 0.2)
    outputs = {"images": images, "captions": captions, "not_negative": not_negative}
    signs = signs_of_collapse(module, outputs, loss=found)
    assert [float(sign) for sign in signs] == pytest.approx([0, 0, 1], abs=1e-6)
    assert signs.collapsed(spread=0.01, tolerance=0.02)


@pytest.mark.parametrize(
    ("signs", "collapsed"),
    [
        ((0.5, 0.5, 0.5), False),
        ((0.5, 0.5, 1.0), False),  # learns nothing yet, but is no point
        ((0.001, 0.5, 1.01), True),  # images alone are one
        ((0.5, 0.001, 0.99), True),
        ((0.001, 0.001, 0.9), False),  # tells pairs apart still
        ((0.001, 0.001, 1.1), False),
        ((float("nan"), 0.001, 1.0), False),
    ],
)
def test_a_collapse_has_both_signs(signs, collapsed):
    assert Signs(*map(torch.tensor, signs)).collapsed(spread=0.01, tolerance=0.02) is collapsed


@pytest.fixture(scope="module")
def warned(tmp_path_factory) -> tuple[RetrievalModule, Negatives]:
    module, negatives = collapsing_module(), Negatives()
    fit(tmp_path_factory.mktemp("warned"), module, watch(), negatives, max_epochs=2)
    return module, negatives


def test_a_collapse_is_told_of_once_with_the_four_knobs(tmp_path, capsys):
    fit(tmp_path, collapsing_module(), watch(patience=3), max_epochs=2)
    [line] = [line for line in capsys.readouterr().out.splitlines() if "collapsed" in line]
    assert line.startswith("step 4: the embeddings have collapsed: spread 0.0000 of images and 0.0000 of captions, ")
    for knob in ("optimizer.lr, now 1.0e-05", "warm-up", "frozen trunk", "batch_size", "hardest negatives came"):
        assert knob in line


def test_its_signs_are_logged(warned):
    _, negatives = warned
    for logged in negatives.logged:
        assert logged["train/image_spread"] == pytest.approx(0, abs=1e-4)
        assert logged["train/caption_spread"] == pytest.approx(0, abs=1e-4)
        assert logged["train/loss_ratio"] == pytest.approx(1, abs=1e-3)
        assert 0 <= logged["train/collision_rate"] <= 1
    assert set(negatives.counted) == {"hardest"}


def test_watching_leaves_the_training_as_it_was(warned, tmp_path):
    watched, _ = warned
    alone = collapsing_module()
    fit(tmp_path, alone, max_epochs=2)
    assert all(torch.equal(value, weights(watched)[name]) for name, value in weights(alone).items())


def test_a_training_that_learns_is_not_stopped(tmp_path, capsys):
    trainer = fit(tmp_path, tiny_module(), watch(on_collapse="stop", patience=0), max_epochs=2)
    assert (trainer.current_epoch, trainer.global_step) == (2, 12)
    assert "collapsed" not in capsys.readouterr().out


def test_a_collapsed_run_can_stop_after_a_validation_and_a_checkpoint(tmp_path):
    trainer = fit(tmp_path, collapsing_module(), watch(on_collapse="stop"))
    assert trainer.global_step == 4
    assert "val/rsum" in trainer.callback_metrics
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["global_step"] == 4


def test_all_negatives_can_return_up_to_the_end_of_the_next_epoch(tmp_path, capsys):
    module, negatives = collapsing_module(), Negatives()
    fit(tmp_path, module, watch(on_collapse="soften"), negatives)
    assert "step 4: all negatives count up to the end of epoch 1" in capsys.readouterr().out
    softened = ["hardest"] * 4 + ["all"] * 8
    assert negatives.counted[:12] == softened
    assert negatives.counted[12:] == ["hardest"] + ["all"] * 11  # still collapsed: again
    state = torch.load(tmp_path / "last.ckpt", weights_only=True)["callbacks"]["Collapse"]
    assert state["warned"]
    assert state["softened"] == [0, 1, 2, 3]


def test_a_resumed_run_is_as_soft_and_warns_no_second_time(tmp_path, capsys):
    whole, module = collapsing_module(), collapsing_module()
    fit(tmp_path / "whole", whole, watch(on_collapse="soften"), max_epochs=3)
    fit(tmp_path, collapsing_module(), watch(on_collapse="soften"), max_epochs=1)
    capsys.readouterr()
    negatives = Negatives()
    resumed = watch(on_collapse="soften")
    fit(tmp_path / "resumed", module, resumed, negatives, resume=tmp_path / "last.ckpt", max_epochs=3)
    assert negatives.counted[:7] == ["all"] * 6 + ["hardest"]
    assert "have collapsed" not in capsys.readouterr().out
    assert all(torch.equal(value, weights(whole)[name]) for name, value in weights(module).items())


def test_an_unknown_answer_is_refused():
    with pytest.raises(VSEError, match="on_collapse='pray', expected one of warn, stop, soften"):
        watch(on_collapse="pray")
