"""Losses of a batch of matched pairs: similarity (B,B) → scalar; row i is image i, column j caption j.

All are tied to the batch alike: the gradient of a pair does not shrink as the batch grows, so the learning rate is
chosen together with the batch size.
"""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from vse_gpo.errors import VSEError


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
        excluded = _positives(similarity)
        if not_negative is not None:
            excluded = excluded | not_negative
        against_captions = (self.margin + similarity - positive[:, None]).clamp(min=0).masked_fill(excluded, 0.0)
        against_images = (self.margin + similarity - positive[None, :]).clamp(min=0).masked_fill(excluded, 0.0)
        if hardest:
            return against_captions.max(dim=1).values.sum() + against_images.max(dim=0).values.sum()
        return against_captions.sum() + against_images.sum()


class InfoNCE(nn.Module):
    """Softmax cross-entropy over in-batch negatives, both ways (van den Oord et al. 2018; Radford et al. 2021).

    With a margin, the additive margin softmax of Yang et al. (2019, "Improving multilingual sentence embedding using
    bi-directional dual encoder with additive margin softmax"), which the dual encoder of Parekh et al. (2021) follows.

    Averaged over the queries of both directions and scaled by the batch size, so that the learning rate is tied to the
    batch as for the triplet loss. It knows no hardest negatives: the softmax weighs them already.

    Args:
        temperature: at the start; the similarities are divided by it.
        learnable: whether the temperature trains.
        margin: taken off a positive's similarity, in cosine, before the temperature divides it.
    """

    def __init__(self, temperature: float = 0.05, learnable: bool = True, margin: float = 0.0) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(_log_scale(temperature), requires_grad=learnable)
        self.margin = margin

    def forward(
        self,
        similarity: Float[Tensor, "batch batch"],
        hardest: bool = True,
        not_negative: Bool[Tensor, "batch batch"] | None = None,
    ) -> Float[Tensor, ""]:
        """Cross-entropy of each image against all captions and of each caption against all images."""
        own = _positives(similarity)
        logits = torch.where(own, similarity - self.margin, similarity) * self.log_scale.exp()
        if not_negative is not None:
            logits = logits.masked_fill(not_negative & ~own, -torch.inf)
        target = torch.arange(len(logits), device=logits.device)
        both = nn.functional.cross_entropy(logits, target) + nn.functional.cross_entropy(logits.T, target)
        return both * len(logits) / 2


class SigmoidLoss(nn.Module):
    """Each pair for itself: does this caption belong to this image? (Zhai et al. 2023, SigLIP, algorithm 1).

    Summed over all B² pairs, which is the paper's average over the batch scaled by the batch size, as for the softmax.
    It knows no hardest negatives. The bias begins so low because nearly all pairs are negatives: without it the first
    steps would do nothing but push every pair apart.

    Args:
        temperature: at the start; the similarities are divided by it. The paper's t' is the logarithm of its inverse.
        bias: at the start, added to the scaled similarities.
        learnable: whether temperature and bias train.
    """

    def __init__(self, temperature: float = 0.1, bias: float = -10.0, learnable: bool = True) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(_log_scale(temperature), requires_grad=learnable)
        self.bias = nn.Parameter(torch.tensor(bias), requires_grad=learnable)

    def forward(
        self,
        similarity: Float[Tensor, "batch batch"],
        hardest: bool = True,
        not_negative: Bool[Tensor, "batch batch"] | None = None,
    ) -> Float[Tensor, ""]:
        """Binary cross-entropy of every pair; those that are no negatives are left out."""
        own = _positives(similarity)
        logits = similarity * self.log_scale.exp() + self.bias
        losses = -nn.functional.logsigmoid(torch.where(own, logits, -logits))
        if not_negative is not None:
            losses = losses.masked_fill(not_negative & ~own, 0.0)
        return losses.sum()


class PhasedLoss(nn.Module):
    """One loss while the phases ask for all negatives, another once they ask for the hardest.

    Args:
        all_negatives: learns fast from scratch, as the softmax does.
        hardest_negatives: the loss of the rest of the training.
    """

    def __init__(self, *, all_negatives: nn.Module, hardest_negatives: nn.Module) -> None:
        super().__init__()
        self.all_negatives = all_negatives
        self.hardest_negatives = hardest_negatives

    def forward(
        self,
        similarity: Float[Tensor, "batch batch"],
        hardest: bool = True,
        not_negative: Bool[Tensor, "batch batch"] | None = None,
    ) -> Float[Tensor, ""]:
        """The loss of the phase."""
        value: Tensor = (self.hardest_negatives if hardest else self.all_negatives)(similarity, hardest, not_negative)
        return value


def _positives(similarity: Float[Tensor, "batch batch"]) -> Bool[Tensor, "batch batch"]:
    """True on the diagonal."""
    return torch.eye(len(similarity), dtype=torch.bool, device=similarity.device)


def _log_scale(temperature: float) -> Float[Tensor, ""]:
    """The logarithm of what similarities are multiplied by.

    Raises:
        VSEError: if the temperature is not above 0.
    """
    if temperature <= 0:
        raise VSEError(f"a loss's temperature of {temperature}, expected above 0")
    return torch.tensor(-math.log(temperature))
