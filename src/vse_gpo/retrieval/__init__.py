"""Retrieval metrics: ranks, recalls and named protocols."""

from vse_gpo.retrieval.protocols import evaluate
from vse_gpo.retrieval.recalls import image_caption_recalls

__all__ = ["evaluate", "image_caption_recalls"]
