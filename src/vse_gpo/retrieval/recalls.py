"""R@K, median and mean rank and rSum, from ranks."""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vse_gpo.retrieval.ranks import Ranks, image_caption_ranks

Array = npt.NDArray[np.floating] | Tensor
Metrics = dict[str, float]


def image_caption_recalls(
    image_embeddings: Array, caption_embeddings: Array, caption_to_image: npt.NDArray[np.integer] | Tensor
) -> Metrics:
    """R@1, 5, 10 in percent, median and mean rank from 1, both ways, and rSum, the sum of the six recalls.

    Args:
        image_embeddings: (images, E) unit vectors.
        caption_embeddings: (captions, E) unit vectors.
        caption_to_image: (captions,) row of each caption's image; any number of captions per image.

    Returns:
        i2t_r1, i2t_r5, i2t_r10, i2t_medr, i2t_meanr, the same for t2i, and rsum.

    Example:
        Two images with one caption each, the second caption nearer to the first image:

        >>> image_caption_recalls(np.eye(2), np.array([[1.0, 0.0], [0.8, 0.6]]), np.array([0, 1]))["t2i_r1"]
        50.0
    """
    ranks = image_caption_ranks(
        torch.as_tensor(image_embeddings),
        torch.as_tensor(caption_embeddings),
        torch.as_tensor(caption_to_image, dtype=torch.long),
    )
    return recalls(ranks)


def recalls(ranks: Ranks) -> Metrics:
    """The metrics of two sets of ranks."""
    metrics: Metrics = {}
    for direction, queries in (("i2t", ranks.images), ("t2i", ranks.captions)):
        for k in (1, 5, 10):
            metrics[f"{direction}_r{k}"] = float(100.0 * (queries < k).mean())
        metrics[f"{direction}_medr"] = float(np.floor(np.median(queries)) + 1)
        metrics[f"{direction}_meanr"] = float(queries.mean() + 1)
    metrics["rsum"] = sum(value for name, value in metrics.items() if "_r" in name)
    return metrics
