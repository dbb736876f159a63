"""Retrieval metrics: similarity → ranks → recalls, by named protocols."""

from vse_gpo.retrieval.recalls import image_caption_recalls, matrix_recalls

__all__ = ["image_caption_recalls", "matrix_recalls"]
