"""Models out of files: checkpoints of a training, released files, saved folders; and what is written from them."""

from vse_gpo.checkpoints.sources import load_model

__all__ = ["load_model"]
