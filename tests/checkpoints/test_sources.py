import errno
import os
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from vse_gpo.checkpoints.names import bert_names, region_names

from vse_gpo.checkpoints.atomic import AtomicCheckpoints
from vse_gpo.cli.run import config_folder
from vse_gpo.errors import VSEError
from vse_gpo.training.run_folder import steps_taken

CHECKPOINTS = AtomicCheckpoints()


def test_a_checkpoint_holds_plain_containers_and_loads_without_running_code(tmp_path):
    CHECKPOINTS.save_checkpoint({"weights": {"a": torch.ones(2)}, "epoch": 3}, tmp_path / "deep" / "last.ckpt")
    loaded = torch.load(tmp_path / "deep" / "last.ckpt", weights_only=True)
    assert loaded["epoch"] == 3
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["last.ckpt"]


def test_a_full_disk_keeps_the_older_checkpoint(tmp_path, monkeypatch):
    path = tmp_path / "last.ckpt"
    CHECKPOINTS.save_checkpoint({"epoch": 1}, path)

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(VSEError, match=r"last\.ckpt: cannot be written.*No space left"):
        CHECKPOINTS.save_checkpoint({"epoch": 2}, path)
    assert torch.load(path, weights_only=True)["epoch"] == 1
    assert [left.name for left in tmp_path.iterdir()] == ["last.ckpt"]


def test_an_asynchronous_write_holds_what_was_saved_and_a_full_disk_is_told_at_the_end(tmp_path, monkeypatch):
    with initialize_config_dir(config_folder(), version_base="1.3"):
        checkpoints = instantiate(compose("train", ["checkpoint_io=asynchronous"]).checkpoint_io)
    path, weights = tmp_path / "last.ckpt", torch.ones(2)
    checkpoints.save_checkpoint({"weights": weights}, path)
    weights.zero_()  # the training goes on
    checkpoints.teardown()
    assert torch.equal(torch.load(path, weights_only=True)["weights"], torch.ones(2))

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)

    def save_and_end() -> None:  # whichever comes after the failure tells it
        checkpoints.save_checkpoint({"weights": weights}, path)
        checkpoints.teardown()

    with pytest.raises(VSEError, match=r"last\.ckpt: cannot be written.*No space left"):
        save_and_end()
    assert torch.equal(torch.load(path, weights_only=True)["weights"], torch.ones(2))
    assert [left.name for left in tmp_path.iterdir()] == ["last.ckpt"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's /dev/full, a device that is always full")
def test_a_device_that_is_really_full_gives_one_line(tmp_path):
    (tmp_path / ".last.ckpt.part").symlink_to("/dev/full")
    with pytest.raises(VSEError) as error:
        CHECKPOINTS.save_checkpoint({"weights": torch.ones(100_000)}, tmp_path / "last.ckpt")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "last.ckpt").exists()


def test_names_of_no_released_encoder_are_refused():
    with pytest.raises(VSEError, match=r"weight resnet\.conv1 belongs to no released encoder"):
        region_names({"resnet.conv1": torch.ones(1)})


def test_what_the_released_forward_never_uses_stays_out():
    names = [
        "bert.pooler.dense.weight",
        "bert.embeddings.position_ids",
        "bert.encoder.x",
        "linear.weight",
        "gpool.gru.y",
    ]
    assert list(bert_names(dict.fromkeys(names, torch.ones(1)))) == [
        "backbone.network.encoder.x",
        "projection.weight",
        "pooling.gru.y",
    ]


@pytest.mark.parametrize("content", [{"state_dict": {}, "epoch": 1}, torch.ones(2)], ids=["weights", "a tensor"])
def test_weights_alone_are_no_checkpoint_to_resume_from(tmp_path, content):
    torch.save(content, tmp_path / "best_ema.ckpt")
    with pytest.raises(VSEError, match=r"best_ema\.ckpt: holds no training state"):
        steps_taken(str(tmp_path / "best_ema.ckpt"), 25)


def test_a_checkpoint_beyond_the_runs_end_is_not_resumed(tmp_path):
    path = tmp_path / "last.ckpt"
    torch.save({"optimizer_states": [], "epoch": 2, "global_step": 18}, path)
    assert [steps_taken(str(path), max_epochs) for max_epochs in (3, 4, -1, None)] == [18] * 4
    with pytest.raises(VSEError, match=r"saved in epoch 2, counted from 0, and trainer\.max_epochs=2 ends the run"):
        steps_taken(str(path), 2)
