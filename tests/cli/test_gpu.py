"""A machine with a GPU that PyTorch cannot use: the driver's file and the devices are made up."""

from pathlib import Path

import pytest
import torch

from tests.helpers.commands import run_on_config
from vse_gpo.cli import gpu
from vse_gpo.cli.gpu import devices, driver_version, unused_gpu, warn_of_unused_gpu

CLOSED = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.183.01  Sun May 12 19:39:15 UTC 2024\nGCC version:\n"
OPEN = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release Build  (dvs-builder@U22)\n"


@pytest.fixture
def machine(monkeypatch, tmp_path) -> Path:
    """A folder with the driver's file ``version`` and one device, without CUDA."""
    (tmp_path / "version").write_text(CLOSED)
    for name in ("nvidia0", "nvidiactl", "null"):
        (tmp_path / name).touch()
    monkeypatch.setattr(gpu, "DRIVER", tmp_path / "version")
    monkeypatch.setattr(gpu, "DEVICES", tmp_path)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for name in ("LOCAL_RANK", "SLURM_LOCALID", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)
    warn_of_unused_gpu.cache_clear()
    yield tmp_path
    warn_of_unused_gpu.cache_clear()


def test_a_gpu_that_stays_unused_is_told_once(machine, capsys):
    for _ in range(2):
        warn_of_unused_gpu("auto")
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.count("\n") == 1
    assert output.err.startswith("warning: an NVIDIA GPU (driver 535.183.01) is there, but PyTorch ")


def test_a_driver_without_a_device_and_a_device_without_a_driver_are_told(machine, capsys):
    (machine / "nvidia0").unlink()
    warn_of_unused_gpu("auto")
    (machine / "nvidia0").touch()
    (machine / "version").unlink()
    warn_of_unused_gpu("gpu")
    assert "(driver unknown)" in capsys.readouterr().err.splitlines()[1]


def test_no_machine_without_a_gpu_and_no_one_who_wants_the_cpu_is_warned(machine, monkeypatch, capsys):
    warn_of_unused_gpu("cpu")
    for name, value in (("CUDA_VISIBLE_DEVICES", ""), ("CUDA_VISIBLE_DEVICES", "-1"), ("LOCAL_RANK", "1")):
        with monkeypatch.context() as patch:
            patch.setenv(name, value)
            warn_of_unused_gpu("auto")
        warn_of_unused_gpu.cache_clear()
    with monkeypatch.context() as patch:
        patch.setattr(torch.cuda, "is_available", lambda: True)
        warn_of_unused_gpu("auto")
    warn_of_unused_gpu.cache_clear()
    for name in ("version", "nvidia0"):
        (machine / name).unlink()
    warn_of_unused_gpu("auto")
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(("config_name", "cpu"), [("train", "trainer.accelerator=cpu"), ("report", "accelerator=cpu")])
def test_a_command_that_computes_warns_unless_it_is_kept_off_the_gpu(command_line, machine, capfd, config_name, cpu):
    for accelerator in ([cpu], []):
        command_line(*accelerator, *(["runs=a"] if config_name == "report" else []))
        run_on_config(lambda config: None, config_name, computes=True)
    assert capfd.readouterr().err.count("warning: an NVIDIA GPU") == 1


@pytest.mark.parametrize(
    ("driver", "there", "version", "cuda", "told"),
    [
        ("580.65.06", ["nvidia0"], "2.14.1+cpu", None, ["its wheel has no CUDA", "/whl/cu130"]),
        ("535.183.01", ["nvidia0"], "2.14.1+cpu", None, ["its wheel has no CUDA", "/whl/cu126"]),
        (None, ["nvidia0"], "2.14.1+cpu", None, ["driver unknown", "/whl/cu130"]),
        ("535.183.01", ["nvidia0"], "2.14.1+cu130", "13.0", ["driver 535.183.01", "CUDA 13.0", "from 580 on", "cu126"]),
        ("470.57.02", ["nvidia0"], "2.9.0+cu128", "12.8", ["CUDA 12.8", "from 525 on", "/whl/cu118"]),
        ("580.65.06", [], "2.14.1+cu130", "13.0", ["/dev/nvidia0", "--gpus all"]),
        ("580.65.06", ["nvidia0"], "2.14.1+cu130", "13.0", ["no working device", "nvidia-smi"]),
        (None, ["nvidia0"], "2.14.1+cu130", "13.0", ["no working device"]),
    ],
)
def test_the_line_names_driver_and_wheel_and_says_what_to_do(driver, there, version, cuda, told):
    line = unused_gpu(driver, there, version, cuda)
    assert "\n" not in line
    assert all(part in line for part in [version, *told])


def test_the_drivers_version_is_read(tmp_path):
    for text, version in ((CLOSED, "535.183.01"), (OPEN, "580.65.06"), ("nonsense", None)):
        (tmp_path / "version").write_text(text)
        assert driver_version(tmp_path / "version") == version
    assert driver_version(tmp_path / "none") is None


def test_devices_are_the_gpus_only(machine):
    (machine / "nvidia10").touch()
    (machine / "nvidia-uvm").touch()
    assert devices(machine) == ["nvidia0", "nvidia10"]
