"""Whether a GPU that was asked for can be used."""

import torch

from vse_gpo.errors import VSEError


def check_accelerator(accelerator: str) -> None:
    """Refuse a GPU that PyTorch cannot use; Lightning's own refusal does not say what to do.

    Args:
        accelerator: as ``trainer.accelerator`` names it.

    Raises:
        VSEError: if there is no such GPU.
    """
    wanted = {"gpu": ("cuda", "mps"), "cuda": ("cuda",), "mps": ("mps",)}.get(accelerator, ())
    usable = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if wanted and not any(usable[kind] for kind in wanted):
        built = f"is built for CUDA {torch.version.cuda}" if torch.version.cuda else "is built without CUDA"
        raise VSEError(
            f"trainer.accelerator={accelerator}: PyTorch {torch.__version__} finds no such GPU ({built}; nvidia-smi "
            "lists NVIDIA's); set trainer.accelerator=cpu, or install the driver and a PyTorch for it"
        )
