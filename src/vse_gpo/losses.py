"""Losses of a batch of matched pairs: similarity (B,B) → scalar; row i is image i, column j caption j."""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn


class TripletLoss(nn.Module):
    """Hinge triplet loss over in-batch negatives (Chen et al. 2021, eq. 1; Faghri et al. 2018).

    Summed over the batch, not averaged: the learning rate is tied to the batch size.

    Args:
        margin: by how much a positive must beat a negative, in cosine.
    """

    def __init__(self, margin: float = 0.2) -> None:
        super().__init__()
        self.margin = margin

    def forward(
        self,
        similarity: Float[Tensor, "batch batch"],
        hardest: bool = True,
        not_negative: Bool[Tensor, "batch batch"] | None = None,
    ) -> Float[Tensor, ""]:
        """Sum the hinge of the hardest negative of each query, or of all its negatives.

        Args:
            similarity: images in rows, captions in columns, positives on the diagonal.
            hardest: keep only the hardest negative of each image and of each caption.
            not_negative: pairs beside the diagonal that are no negatives, as two captions of one image.
        """
        positive = similarity.diagonal()
        excluded = torch.eye(len(similarity), dtype=torch.bool, device=similarity.device)
        if not_negative is not None:
            excluded = excluded | not_negative
        against_captions = (self.margin + similarity - positive[:, None]).clamp(min=0).masked_fill(excluded, 0.0)
        against_images = (self.margin + similarity - positive[None, :]).clamp(min=0).masked_fill(excluded, 0.0)
        if hardest:
            return against_captions.max(dim=1).values.sum() + against_images.max(dim=0).values.sum()
        return against_captions.sum() + against_images.sum()


class InfoNCE(nn.Module):
    """Softmax cross-entropy over in-batch negatives, both ways (van den Oord et al. 2018; Radford et al. 2021).

    Averaged over the queries of both directions and scaled by the batch size, so that the learning rate is tied to the
    batch as for the triplet loss. It knows no hardest negatives: the softmax weighs them already.

    Args:
        temperature: at the start; the similarities are divided by it.
        learnable: whether the temperature trains.
    """

    def __init__(self, temperature: float = 0.05, learnable: bool = True) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.tensor(-math.log(temperature)), requires_grad=learnable)

    def forward(
        self,
        similarity: Float[Tensor, "batch batch"],
        hardest: bool = True,
        not_negative: Bool[Tensor, "batch batch"] | None = None,
    ) -> Float[Tensor, ""]:
        """Cross-entropy of each image against all captions and of each caption against all images."""
        logits = similarity * self.log_scale.exp()
        if not_negative is not None:
            own = torch.eye(len(logits), dtype=torch.bool, device=logits.device)
            logits = logits.masked_fill(not_negative & ~own, -torch.inf)
        target = torch.arange(len(logits), device=logits.device)
        both = nn.functional.cross_entropy(logits, target) + nn.functional.cross_entropy(logits.T, target)
        return both * len(logits) / 2
