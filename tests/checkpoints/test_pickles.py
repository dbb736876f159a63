"""Files of torch.save: read without running code, whatever they hold."""

import argparse
import collections
import os
from pathlib import Path

import pytest
import torch

from vse_gpo.checkpoints.pickles import model_weights, read_pickle
from vse_gpo.errors import VSEError


def test_the_model_s_weights_have_its_own_names():
    weights = {"model.image_encoder.a": torch.ones(1), "loss.scale": torch.ones(1), "model.text_encoder.model.b": None}
    assert list(model_weights(weights)) == ["image_encoder.a", "text_encoder.model.b"]


def test_classes_are_read_only_where_they_are_allowed(tmp_path):
    options = argparse.Namespace(data_name="coco")
    torch.save({"opt": options, "weights": torch.arange(3)}, tmp_path / "model.pth")
    found = read_pickle(tmp_path / "model.pth", [argparse.Namespace])
    assert found["opt"] == options
    assert found["weights"].tolist() == [0, 1, 2]
    with pytest.raises(VSEError, match=r"model\.pth: refused, it holds argparse\.Namespace; expected only tensors"):
        read_pickle(tmp_path / "model.pth", [])


class Bomb:
    """Runs code when it is unpickled."""

    def __reduce__(self):
        return os.system, ("touch exploded",)


@pytest.mark.parametrize("allowed", [[], [argparse.Namespace, collections.Counter]])
def test_code_is_never_run(allowed, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"epoch": 1, "opt": Bomb()}, "bomb.ckpt")
    with pytest.raises(VSEError, match=r"bomb\.ckpt: refused, it holds (posix|nt)\.system"):
        read_pickle("bomb.ckpt", allowed)
    assert not Path("exploded").exists()


@pytest.mark.parametrize("content", [b"", b"no checkpoint", b"PK\x03\x04 cut short"])
def test_damaged_files_give_one_line(content, tmp_path):
    (tmp_path / "last.ckpt").write_bytes(content)
    with pytest.raises(VSEError, match=r"last\.ckpt: .*damaged or not a checkpoint") as error:
        read_pickle(tmp_path / "last.ckpt", [])
    assert "\n" not in str(error.value)


def test_a_missing_file_or_a_folder_is_told(tmp_path):
    with pytest.raises(VSEError, match=r"none\.ckpt: no such file or directory, expected a checkpoint"):
        read_pickle(tmp_path / "none.ckpt", [])
    with pytest.raises(VSEError, match="is a directory, expected a checkpoint"):
        read_pickle(tmp_path, [])


def test_a_flipped_bit_is_found(tmp_path):
    torch.save({"a": torch.arange(100.0)}, tmp_path / "a.ckpt")
    content = bytearray((tmp_path / "a.ckpt").read_bytes())
    place = content.index(torch.arange(100.0).numpy().tobytes()[:64])
    content[place + 9] ^= 4
    (tmp_path / "a.ckpt").write_bytes(content)
    with pytest.raises(VSEError, match=r"a\.ckpt: damaged or not a checkpoint \(.* does not have its checksum"):
        read_pickle(tmp_path / "a.ckpt", [])
