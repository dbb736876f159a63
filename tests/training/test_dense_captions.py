"""Dense captions in the loss: against plain loops, in micro-batches, through a run; two processes are in test_ddp."""

import math
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tests.helpers.tiny import tiny_data, tiny_module, tiny_trainer, weights
from tests.helpers.tiny_root import tiny_root
from vse_gpo import train
from vse_gpo.batch import EncoderOutput
from vse_gpo.data.datamodule import PairsDataModule
from vse_gpo.encoder import normalize
from vse_gpo.errors import VSEError
from vse_gpo.interaction import MaxSim
from vse_gpo.losses import InfoNCE, TripletLoss
from vse_gpo.training.dense_captions import DenseCaptions, check_dense_used, distillation_loss, encode_pairs, whole_loss
from vse_gpo.training.module import RetrievalModule
from vse_gpo.training.objective import Objective

OPTIONS = {
    "extra": DenseCaptions(caption_weight=1.0, dense_weight=0.5, distillation_weight=0.0),
    "pretraining": DenseCaptions(caption_weight=0.0, dense_weight=1.0, distillation_weight=0.0),
    "distillation": DenseCaptions(caption_weight=1.0, dense_weight=0.0, distillation_weight=0.7),
    "all": DenseCaptions(caption_weight=0.3, dense_weight=2.0, distillation_weight=0.7),
}


MODEL = tiny_module().model


@pytest.fixture
def dense_file(tmp_path) -> str:
    """Two dense captions for each of the tiny data's eleven images."""
    lines = [letter * (5 + image % 4) + "xyz" for image in range(11) for letter in "pq"]
    (tmp_path / "dense.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return str(tmp_path / "dense.txt")


def first_batch(data: PairsDataModule) -> Any:
    return next(iter(data.train_dataloader()))


# the loss


def triplet_loop(one: list[list[float]], other: list[list[float]], hardest: bool, margin: float = 0.2) -> float:
    """Hinge of every pair of rows against the others, in both directions."""

    def dot(a: list[float], b: list[float]) -> float:
        return sum(x * y for x, y in zip(a, b, strict=True))

    total = 0.0
    for i in range(len(one)):
        wrong = [j for j in range(len(one)) if j != i]
        positive = dot(one[i], other[i])
        for costs in (
            [max(0.0, margin + dot(one[i], other[j]) - positive) for j in wrong],
            [max(0.0, margin + dot(one[j], other[i]) - positive) for j in wrong],
        ):
            total += max(costs) if hardest else sum(costs)
    return total


@pytest.mark.parametrize("option", OPTIONS)
@given(rows=st.integers(2, 5), seed=st.integers(0, 50), hardest=st.booleans())
def test_the_loss_is_the_plain_loop(option, rows, seed, hardest):
    generator = torch.Generator().manual_seed(seed)
    images, captions, dense = normalize(torch.randn(3, rows, 4, generator=generator))
    own = OPTIONS[option]
    distilled = sum(
        1 - sum(a * b for a, b in zip(*pair, strict=True))
        for pair in zip(captions.tolist(), dense.tolist(), strict=True)
    )
    expected = (
        own.caption_weight * triplet_loop(images.tolist(), captions.tolist(), hardest)
        + own.dense_weight * triplet_loop(images.tolist(), dense.tolist(), hardest)
        + own.distillation_weight * distilled
    )
    loss_of = partial(Objective(TripletLoss(), {"embedding": 1.0}).loss_of, MODEL, hardest=hardest, not_negative=None)
    found = whole_loss(loss_of, own, *(EncoderOutput(rows, None) for rows in (images, captions, dense)))
    assert float(found) == pytest.approx(expected, rel=1e-5, abs=1e-5)


def test_the_teacher_gets_no_gradient():
    student, teacher = (normalize(torch.randn(3, 4)).requires_grad_() for _ in range(2))
    distillation_loss(student, teacher).backward()
    assert teacher.grad is None
    torch.testing.assert_close(student.grad, -teacher.detach())


def test_equal_captions_are_not_distilled():
    captions = normalize(torch.randn(3, 4))
    assert float(distillation_loss(captions, captions)) == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize(
    ("given_weights", "problem"),
    [
        ((1.0, -0.5, 0.0), "dense.dense_weight=-0.5, expected at least 0"),
        ((1.0, math.nan, 0.0), "dense.dense_weight=nan, expected at least 0"),
        ((0.0, 0.0, 1.0), "images learn nothing"),
        ((1.0, 0.0, 0.0), "dense captions have no use"),
    ],
)
def test_weights_that_train_nothing_are_refused(given_weights, problem):
    names = ("caption_weight", "dense_weight", "distillation_weight")
    with pytest.raises(VSEError, match=problem):
        DenseCaptions(**dict(zip(names, given_weights, strict=True)))


def test_the_file_and_the_loss_need_each_other():
    check_dense_used(None, None)
    check_dense_used("dense.txt", {"caption_weight": 1.0})
    with pytest.raises(
        VSEError, match=r"dataset.dense=dense.txt, but the loss does not use dense captions; set dense="
    ):
        check_dense_used("dense.txt", None)
    with pytest.raises(VSEError, match=r"set dataset.dense=FILE"):
        check_dense_used(None, {"caption_weight": 1.0})


# a step


def gradients(module: RetrievalModule, batch: Any, micro_batch: int | None) -> list[Tensor]:
    """The loss of a step and the gradients of all that has some."""
    module.zero_grad()
    loss_of = partial(module.objective.loss_of, module.model, hardest=True, not_negative=None)
    value = whole_loss(loss_of, module.dense, *encode_pairs(module.model, batch, micro_batch, module.dense))
    value.backward()
    return [value.detach(), *(own.grad for own in module.parameters() if own.grad is not None)]


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("size", [1, 3, 20])
def test_micro_batches_give_the_loss_and_gradients_of_one_pass(dense_file, option, size):
    joint = {"interaction": MaxSim(), "similarity_weights": {"embedding": 1.0, "interaction": 0.5}}
    module = tiny_module(dropout=0.0, drop_regions=0.0, loss=InfoNCE(), dense=OPTIONS[option], **joint)
    batch = first_batch(tiny_data(dense=dense_file, batch_size=8))
    found, expected = gradients(module, batch, size), gradients(module, batch, None)
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("size", [None, 3])
def test_dense_captions_that_only_teach_keep_no_graph(dense_file, size):
    module = tiny_module(dense=OPTIONS["distillation"])
    batch = first_batch(tiny_data(dense=dense_file))
    outputs = encode_pairs(module.model, batch, size, module.dense)
    assert [output.embeddings.requires_grad for output in outputs] == [True, True, False]


def test_a_batch_without_dense_captions_is_refused():
    module = tiny_module(dense=OPTIONS["extra"])
    with pytest.raises(VSEError, match=r"the batch has none; set dataset.dense=FILE"):
        encode_pairs(module.model, first_batch(tiny_data()), None, module.dense)


# a run


def trained(folder: Path, data: PairsDataModule, **changes: Any) -> dict[str, Tensor]:
    module = tiny_module(**changes)
    tiny_trainer(folder, max_epochs=2).fit(module, datamodule=data)
    return weights(module)


def assert_equal(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert all(torch.equal(value, expected[name]) for name, value in found.items())


def test_dense_captions_that_no_loss_uses_change_nothing(tmp_path, dense_file):
    assert_equal(trained(tmp_path, tiny_data(dense=dense_file)), trained(tmp_path, tiny_data()))


def test_a_run_resumes_bit_equal(tmp_path, dense_file):
    own = {"dense": OPTIONS["all"], "micro_batch": 3}
    whole = trained(tmp_path, tiny_data(dense=dense_file), **own)
    tiny_trainer(tmp_path / "part", max_epochs=1).fit(tiny_module(**own), datamodule=tiny_data(dense=dense_file))
    resumed = tiny_module(**own)
    trainer = tiny_trainer(tmp_path / "resumed", max_epochs=2)
    trainer.fit(
        resumed, datamodule=tiny_data(dense=dense_file), ckpt_path=tmp_path / "part" / "last.ckpt", weights_only=True
    )
    assert_equal(weights(resumed), whole)


def test_the_command_pretrains_on_them_and_then_distils(monkeypatch, tmp_path, capsys):
    overrides = tiny_root(tmp_path / "data")
    (tmp_path / "data" / "dense.txt").write_text("a red car and a green boat\n" * 12, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    shared = [*overrides, "dataset.dense=data/dense.txt", "trainer.max_epochs=1", "test=false"]
    shared += ["~callbacks.pooling_curves", "~callbacks.examples"]
    for own in (["dense=pretraining"], ["dense=distillation", "init=first/checkpoints/best.ckpt"]):
        folder = "first" if own == ["dense=pretraining"] else "second"
        monkeypatch.setattr(sys, "argv", ["vse-train", *shared, *own, f"hydra.run.dir={folder}"])
        train.main()
    assert (tmp_path / "second" / "metrics.json").exists()
    assert "first" in capsys.readouterr().out  # where the weights are from
