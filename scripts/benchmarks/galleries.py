"""Embeddings like those of a trained model."""

import torch

LATENT = 48  # approximate dimensions that trained embeddings fill


def embeddings(images: int, per_image: int, width: int, noise: float = 0.75) -> tuple[torch.Tensor, torch.Tensor]:
    """Unit embeddings with captions close to their image, so that ranks are like those of a trained model."""
    generator = torch.Generator().manual_seed(0)
    basis = torch.linalg.qr(torch.randn(width, min(LATENT, width), generator=generator)).Q.T
    latent = torch.randn(images, len(basis), generator=generator)
    of_captions = torch.empty(images * per_image, width)
    for first in range(0, images, 5000):  # avoids a temporary copy of everything
        own = latent[first : first + 5000].repeat_interleave(per_image, dim=0)
        own.add_(torch.randn(own.shape, generator=generator), alpha=noise)
        rows = slice(first * per_image, first * per_image + len(own))
        of_captions[rows] = torch.nn.functional.normalize(own @ basis, dim=1)
    return torch.nn.functional.normalize(latent @ basis, dim=1), of_captions
