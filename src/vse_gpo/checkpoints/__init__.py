"""Load models from files (training checkpoints, released files, saved folders); convert and export them."""

from vse_gpo.checkpoints.sources import load_model

__all__ = ["load_model"]
