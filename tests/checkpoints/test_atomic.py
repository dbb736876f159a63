"""Checkpoints are whole or not there."""

import errno
import os
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

from vse_gpo.checkpoints.atomic import AtomicCheckpoints
from vse_gpo.cli.run import config_folder
from vse_gpo.errors import VSEError

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
def test_a_device_that_is_really_full_gives_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(Path, "touch", lambda part, exist_ok: part.symlink_to("/dev/full"))
    with pytest.raises(VSEError, match=r"last\.ckpt: cannot be written \(\[Errno 28\] No space left") as error:
        CHECKPOINTS.save_checkpoint({"weights": torch.ones(100_000)}, tmp_path / "last.ckpt")
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []
