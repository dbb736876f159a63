"""A run that was killed ends as one that was not."""

import multiprocessing
import signal
from functools import partial
from multiprocessing.context import ForkServerContext
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from transformers import get_cosine_schedule_with_warmup, get_wsd_schedule

from tests.helpers.tiny import STORY, save_last, tiny_data, tiny_module, tiny_optimization, tiny_trainer, weights
from tests.helpers.tiny_shards import Kill, run_processes, write_tiny_shards
from vse_gpo.batch import Batch
from vse_gpo.errors import VSEError
from vse_gpo.training.module import RetrievalModule
from vse_gpo.training.phases import Phases

STEPS_PER_EPOCH = 6  # 21 captions in batches of 4


@pytest.fixture(scope="module")
def processes() -> ForkServerContext:
    """Starts processes of their own quickly: they come from one that has imported everything."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.training.test_resume"])
    return context


def train_until_killed(folder: Path, every_n_steps: int | None, step: int, workers: int) -> None:
    multiprocessing.set_start_method("fork", force=True)  # of the loader's, as in a process of one's own
    trainer = tiny_trainer(folder, callbacks=[save_last(folder, every_n_steps), Kill(step)])
    trainer.fit(tiny_module(), datamodule=tiny_data(workers=workers))


def uninterrupted(folder: Path) -> dict[str, torch.Tensor]:
    module = tiny_module()
    tiny_trainer(folder).fit(module, datamodule=tiny_data())
    return weights(module)


@pytest.mark.parametrize(
    ("every_n_steps", "killed_at", "resumed_from", "workers"),
    [
        (None, STEPS_PER_EPOCH + 3, STEPS_PER_EPOCH, 0),
        (4, STEPS_PER_EPOCH + 3, 8, 0),
        (4, 2 * STEPS_PER_EPOCH + 1, 12, 0),
        (None, STEPS_PER_EPOCH + 3, STEPS_PER_EPOCH, 2),
        (4, STEPS_PER_EPOCH + 3, 8, 2),
        (4, 2 * STEPS_PER_EPOCH + 1, 12, 2),
    ],
    ids=[
        f"{where}{who}"
        for who in ("", ", loader processes")
        for where in ("epoch boundary", "inside an epoch", "epoch's last step")
    ],
)
def test_a_killed_run_ends_bit_equal_to_an_uninterrupted_one(
    processes, tmp_path, every_n_steps, killed_at, resumed_from, workers
):
    process = processes.Process(target=train_until_killed, args=(tmp_path, every_n_steps, killed_at, workers))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    checkpoint = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert checkpoint["global_step"] == resumed_from

    module = tiny_module()
    trainer = tiny_trainer(tmp_path / "resumed")
    trainer.fit(module, datamodule=tiny_data(workers=workers), ckpt_path=tmp_path / "last.ckpt", weights_only=True)

    assert trainer.global_step == 3 * STEPS_PER_EPOCH
    expected = uninterrupted(tmp_path / "whole")  # whoever loads the data
    assert all(torch.equal(value, expected[name]) for name, value in weights(module).items())


def ends_as_whole(
    processes: ForkServerContext, folder: Path, *, count: int, workers: int, at_once: int | None, killed_at: int
) -> bool:
    """Whether a training on shards that was killed in the middle of an epoch ends as one that was not."""
    write_tiny_shards(folder / "data")
    for place in ("killed", "resumed", "whole"):
        (folder / place).mkdir()
    settings = folder / "data", folder / "killed", workers, at_once
    assert run_processes(processes, count, *settings, killed_at, None) == [-signal.SIGKILL] * count
    last = folder / "killed" / "last.ckpt"
    assert torch.load(last, weights_only=True)["global_step"] == killed_at - killed_at % 4
    settings = folder / "data", folder / "resumed", workers, at_once
    assert run_processes(processes, count, *settings, None, last) == [0] * count
    settings = folder / "data", folder / "whole", 0, at_once
    assert run_processes(processes, count, *settings, None, None) == [0] * count
    resumed, whole = (torch.load(folder / place / "weights.pt", weights_only=True) for place in ("resumed", "whole"))
    return all(torch.equal(value, resumed[name]) for name, value in whole.items())


def test_a_run_on_shards_that_was_killed_inside_an_epoch_ends_bit_equal(processes, tmp_path):
    assert ends_as_whole(processes, tmp_path, count=1, workers=0, at_once=2, killed_at=STEPS_PER_EPOCH + 3)


@pytest.mark.slow
@pytest.mark.parametrize("killed_at", [9, 10, 14])  # an epoch of two processes has five steps
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("count", [1, 2])
def test_any_run_on_shards_that_was_killed_ends_bit_equal(processes, tmp_path, count, workers, killed_at):
    at_once = 2 if killed_at % 2 else None
    assert ends_as_whole(processes, tmp_path, count=count, workers=workers, at_once=at_once, killed_at=killed_at)


def test_a_schedule_over_steps_goes_on_where_it_was(tmp_path):
    def module() -> RetrievalModule:
        cosine = partial(get_cosine_schedule_with_warmup, num_warmup_steps=2)
        return tiny_module(optimization=tiny_optimization(schedule=cosine, interval="step"))

    whole, resumed = module(), module()
    kept = pl.callbacks.ModelCheckpoint(dirpath=tmp_path, filename="{step}", every_n_train_steps=8, save_top_k=-1)
    tiny_trainer(tmp_path, callbacks=[kept]).fit(whole, datamodule=tiny_data())
    trainer = tiny_trainer(tmp_path / "resumed")
    trainer.fit(resumed, datamodule=tiny_data(), ckpt_path=tmp_path / "step=8.ckpt", weights_only=True)
    assert trainer.global_step == 3 * STEPS_PER_EPOCH
    assert all(torch.equal(value, weights(whole)[name]) for name, value in weights(resumed).items())


def in_steps(**changes: object) -> RetrievalModule:
    """A module whose phases, ramp and schedule are counted in steps."""
    wsd = partial(get_wsd_schedule, num_warmup_steps=2, num_decay_steps=4)
    phases = Phases(STORY, epoch_steps=5)
    return tiny_module(phases=phases, optimization=tiny_optimization(schedule=wsd, interval="step"), **changes)


@pytest.mark.parametrize("count", [1, 2])
def test_a_run_counted_in_steps_that_ends_inside_an_epoch_can_be_prolonged(tmp_path, count):
    """The schedule of both is that of the whole run, as if it had been interrupted."""
    steps = {"max_epochs": -1, "accumulate_grad_batches": count}
    total, some = 15 // count, 8 // count
    whole, resumed = in_steps(), in_steps()
    kept = pl.callbacks.ModelCheckpoint(dirpath=tmp_path, filename="{step}", every_n_train_steps=some, save_top_k=-1)
    tiny_trainer(tmp_path, callbacks=[kept], max_steps=total, **steps).fit(whole, datamodule=tiny_data())
    trainer = tiny_trainer(tmp_path / "resumed", max_steps=total, **steps)
    trainer.fit(resumed, datamodule=tiny_data(), ckpt_path=tmp_path / f"step={some}.ckpt", weights_only=True)
    assert trainer.global_step == total
    assert trainer.optimizers[0].param_groups[0]["lr"] == 0.0  # the schedule ends with the run
    assert all(torch.equal(value, weights(whole)[name]) for name, value in weights(resumed).items())


def test_the_same_seed_gives_the_same_run_and_another_seed_another(tmp_path):
    first, again = uninterrupted(tmp_path), uninterrupted(tmp_path)
    assert all(torch.equal(value, again[name]) for name, value in first.items())
    module = tiny_module(seed=1)
    tiny_trainer(tmp_path).fit(module, datamodule=tiny_data(seed=1))
    assert any(not torch.equal(value, first[name]) for name, value in weights(module).items())


def test_a_run_in_micro_batches_resumes_bit_equal(tmp_path):
    tiny_trainer(tmp_path, max_epochs=1).fit(tiny_module(micro_batch=3), datamodule=tiny_data())
    module, whole = tiny_module(micro_batch=3), tiny_module(micro_batch=3)
    trainer = tiny_trainer(tmp_path / "resumed")
    trainer.fit(module, datamodule=tiny_data(), ckpt_path=tmp_path / "last.ckpt", weights_only=True)
    tiny_trainer(tmp_path / "whole").fit(whole, datamodule=tiny_data())
    assert trainer.global_step == 3 * STEPS_PER_EPOCH
    assert all(torch.equal(value, weights(whole)[name]) for name, value in weights(module).items())


def test_a_checkpoint_of_another_model_is_refused_in_one_line(tmp_path):
    tiny_trainer(tmp_path, max_epochs=1).fit(tiny_module(), datamodule=tiny_data())
    other = tiny_module()
    other.model.image_encoder.projection = torch.nn.Linear(6, 8, bias=False)
    other.model.text_encoder.backbone.embed = torch.nn.Embedding(5, 5)
    with pytest.raises(VSEError) as error:
        tiny_trainer(tmp_path).fit(other, datamodule=tiny_data(), ckpt_path=tmp_path / "last.ckpt", weights_only=True)
    assert "another model" in str(error.value)
    assert "\n" not in str(error.value)


class Order(pl.Callback):
    """The captions of every batch, in the order of training."""

    def __init__(self) -> None:
        self.captions: list[int] = []

    def on_train_batch_end(self, trainer: pl.Trainer, module: object, outputs: object, batch: Batch, idx: int) -> None:
        self.captions += batch.caption_index.tolist()


@pytest.mark.parametrize("workers", [0, 1])
def test_every_epoch_draws_every_pair_once_in_an_order_of_its_own(tmp_path, workers):
    order = Order()
    trainer = tiny_trainer(tmp_path, callbacks=[order], enable_checkpointing=False)
    trainer.fit(tiny_module(), datamodule=tiny_data(workers=workers))
    epochs = [order.captions[first : first + 21] for first in range(0, 63, 21)]
    assert [sorted(epoch) for epoch in epochs] == [list(range(21))] * 3
    assert epochs[0] != epochs[1] != epochs[2] != epochs[0]
