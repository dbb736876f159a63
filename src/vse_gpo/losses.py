"""Losses of a batch of matched pairs: similarity (B,B) → scalar; row i is image i, column j caption j."""

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
