"""A GPU that was asked for and is not there."""

import pytest
import torch

from vse_gpo import train
from vse_gpo.errors import VSEError
from vse_gpo.training.accelerator import check_accelerator


@pytest.fixture
def no_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)


@pytest.mark.parametrize("accelerator", ["gpu", "cuda", "mps"])
def test_a_gpu_that_is_not_there_gives_one_line_before_anything_is_read(no_gpu, accelerator, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["vse-train", f"trainer.accelerator={accelerator}", "test=false"])
    with pytest.raises(SystemExit, match="1"):
        train.main()
    line = f"error: trainer.accelerator={accelerator}: PyTorch {torch.__version__} finds no such GPU (is built "
    assert (error := capsys.readouterr().err).startswith(line)
    assert error.endswith("; set trainer.accelerator=cpu, or install the driver and a PyTorch for it\n")
    assert error.count("\n") == 1


def test_any_other_accelerator_is_left_to_lightning(no_gpu, monkeypatch):
    for accelerator in ("auto", "cpu", "tpu"):
        check_accelerator(accelerator)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    check_accelerator("gpu")
    check_accelerator("cuda")
    with pytest.raises(VSEError, match="mps"):
        check_accelerator("mps")
