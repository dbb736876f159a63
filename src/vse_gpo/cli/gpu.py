"""A warning where a GPU is there and PyTorch cannot use it, as everything would run on the CPU in silence."""

import os
import re
import sys
import warnings
from functools import cache
from pathlib import Path

DRIVER, DEVICES = Path("/proc/driver/nvidia/version"), Path("/dev")
NEEDED = {12: 525, 13: 580}  # CUDA of a wheel → the oldest driver for it: NVIDIA, "CUDA Compatibility", table 1
PAGE = "see the page On GPUs"


@cache
def warn_of_unused_gpu(accelerator: str) -> None:
    """Print one warning line, once in a process and once on a machine, if its GPU stays unused unintentionally.

    Args:
        accelerator: as it was set; ``cpu`` keeps off the GPU.
    """
    first = all(os.environ.get(rank, "0") == "0" for rank in ("LOCAL_RANK", "SLURM_LOCALID"))
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1")
    if accelerator == "cpu" or hidden or not first or not (DRIVER.exists() or devices(DEVICES)):
        return
    import torch  # noqa: PLC0415, help does without torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns of an old driver, without naming the wheel
        if torch.cuda.is_available():
            return
    remark = unused_gpu(driver_version(DRIVER), devices(DEVICES), torch.__version__, torch.version.cuda)
    sys.stderr.write(f"warning: {remark}; {PAGE}\n")


def devices(folder: Path) -> list[str]:
    """The NVIDIA GPUs that this process may open, such as nvidia0."""
    return sorted(path.name for path in folder.glob("nvidia[0-9]*"))


def driver_version(file: Path) -> str | None:
    """The driver's version, such as 535.183.01; None if the file is missing or names none."""
    try:
        found = re.search(r"NVRM version:.*?\s(\d+\.[\d.]+)", file.read_text(encoding="utf-8", errors="replace"))
    except OSError:
        return None
    return found[1] if found else None


def unused_gpu(driver: str | None, devices: list[str], version: str, cuda: str | None) -> str:
    """Why PyTorch finds no GPU, and what to do.

    Args:
        driver: version of NVIDIA's driver, if it is known.
        devices: see ``devices``.
        version: of PyTorch.
        cuda: that the wheel of PyTorch was built for; None for a wheel without CUDA.
    """
    there = f"an NVIDIA GPU (driver {driver or 'unknown'}) is there, but PyTorch {version} runs on the CPU: "
    number = int(driver.partition(".")[0]) if driver else None
    if cuda is None:
        return f"{there}its wheel has no CUDA; {install(number)}"
    needed = NEEDED.get(int(cuda.partition(".")[0]), 0)
    if number is not None and number < needed:
        return (
            f"{there}its wheel is for CUDA {cuda}, which needs a driver from {needed} on; update the driver, or "
            f"{install(number)}"
        )
    if not devices:
        return f"{there}this process sees no /dev/nvidia0; start a container with --gpus all, a SLURM job with --gpus=1"
    return f"{there}its wheel for CUDA {cuda} finds no working device; does nvidia-smi list one?"


def install(driver: int | None) -> str:
    """The command that installs a PyTorch for a driver, of which the number before the point counts, if it is known."""
    packages, wheels = "torch torchvision", "cu130"
    if driver is not None and driver < NEEDED[13]:
        wheels = "cu126"
    if driver is not None and driver < NEEDED[12]:
        packages, wheels = "torch==2.7.1 torchvision==0.22.1", "cu118"
    return f"pip install --force-reinstall {packages} --index-url https://download.pytorch.org/whl/{wheels}"
