"""Losses of a batch of matched pairs: similarity (B,B) → scalar; row i is image i, column j is caption j.

All of them scale with the batch: the gradient of a pair does not shrink as the batch grows, so the learning rate must
be chosen together with the batch size.
"""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from vse_gpo.errors import VSEError


class TripletLoss(nn.Module):
    """Hinge triplet loss over in-batch negatives (Chen et al. 2021, eq. 1; Faghri et al. 2018).

    Summed over the batch, not averaged: the learning rate depends on the batch size.

    Args:
        margin: minimum lead of a positive over a negative, in cosine similarity.
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
            not_negative: off-diagonal pairs that are not negatives, such as two captions of one image.
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


class PairLogits(nn.Module):
    """Similarities → logits, by the scale and bias that a pretrained model brings; no ranking depends on them.

    A softmax of CLIP's logits over the captions, or a sigmoid of SigLIP's, is the probability of a pair.

    Args:
        log_scale: logarithm of what similarities are multiplied by.
        bias: added after that; 0 for models trained with a softmax.
    """

    def __init__(self, log_scale: float = 0.0, bias: float = 0.0) -> None:
        super().__init__()
        self.log_scale: Tensor
        self.bias: Tensor
        self.register_buffer("log_scale", torch.tensor(log_scale))
        self.register_buffer("bias", torch.tensor(bias))

    def forward(self, similarity: Float[Tensor, "images captions"]) -> Float[Tensor, "images captions"]:
        return similarity * self.log_scale.exp() + self.bias


class ScaledLoss(nn.Module):
    """Base of the losses of scaled similarities, whose scale is trained.

    Args:
        temperature: initial value, the inverse of the scale; None takes the scale of the pretrained model.
        learnable: whether the scale is trained.
    """

    def __init__(self, temperature: float | None, learnable: bool) -> None:
        super().__init__()
        self.own_scale = temperature is not None
        self.log_scale = nn.Parameter(_log_scale(1.0 if temperature is None else temperature), requires_grad=learnable)

    def share(self, logits: PairLogits | None) -> None:
        """Make the scale of a model the one that this loss trains, so that the model's logits stay those of the loss.

        Args:
            logits: of the model; None if it brings none.

        Raises:
            VSEError: if the scale of a pretrained model is asked for, and there is none.
        """
        self.log_scale = _shared("temperature", "log_scale", self.log_scale, self.own_scale, logits)


class InfoNCE(ScaledLoss):
    """Softmax cross-entropy over in-batch negatives, both directions (van den Oord et al. 2018; Radford et al. 2021).

    With a margin, the additive margin softmax of Yang et al. (2019, "Improving multilingual sentence embedding using
    bi-directional dual encoder with additive margin softmax"), which the dual encoder of Parekh et al. (2021) follows.

    Averaged over the queries of both directions and multiplied by the batch size, so that it scales with the batch like
    the triplet loss. It ignores ``hardest``: the softmax already gives hard negatives more weight.

    Args:
        temperature: initial value; the similarities are divided by it. None takes the scale of the pretrained model.
        learnable: whether the temperature is trained.
        margin: subtracted from a positive's cosine similarity, before the division by the temperature.
    """

    def __init__(self, temperature: float | None = 0.05, learnable: bool = True, margin: float = 0.0) -> None:
        super().__init__(temperature, learnable)
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


class SigmoidLoss(ScaledLoss):
    """Classify each pair on its own: does this caption belong to this image? (Zhai et al. 2023, SigLIP, algorithm 1).

    Summed over all B² pairs, which is the paper's average over the batch times the batch size, as for the softmax. It
    ignores ``hardest``. The initial bias is low because nearly all pairs are negatives: without it, the first steps
    would only push every pair apart.

    Args:
        temperature: initial value; the similarities are divided by it. The paper's t' is the logarithm of its inverse.
            None takes the scale of the pretrained model.
        bias: initial value, added to the scaled similarities; None takes that of the pretrained model.
        learnable: whether temperature and bias are trained.
    """

    def __init__(self, temperature: float | None = 0.1, bias: float | None = -10.0, learnable: bool = True) -> None:
        super().__init__(temperature, learnable)
        self.own_bias = bias is not None
        self.bias = nn.Parameter(torch.tensor(0.0 if bias is None else bias), requires_grad=learnable)

    def share(self, logits: PairLogits | None) -> None:
        """See ``ScaledLoss``; the bias too."""
        super().share(logits)
        self.bias = _shared("bias", "bias", self.bias, self.own_bias, logits)

    def forward(
        self,
        similarity: Float[Tensor, "batch batch"],
        hardest: bool = True,
        not_negative: Bool[Tensor, "batch batch"] | None = None,
    ) -> Float[Tensor, ""]:
        """Binary cross-entropy of every pair, without those in ``not_negative``."""
        own = _positives(similarity)
        logits = similarity * self.log_scale.exp() + self.bias
        losses = -nn.functional.logsigmoid(torch.where(own, logits, -logits))
        if not_negative is not None:
            losses = losses.masked_fill(not_negative & ~own, 0.0)
        return losses.sum()


class PhasedLoss(nn.Module):
    """One loss while the training phase uses all negatives, another when it uses the hardest.

    Args:
        all_negatives: a loss that learns fast from scratch, such as the softmax.
        hardest_negatives: the loss for the rest of the training.
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
        """The loss of the current phase."""
        value: Tensor = (self.hardest_negatives if hardest else self.all_negatives)(similarity, hardest, not_negative)
        return value


def share_logits(loss: nn.Module, logits: PairLogits | None) -> None:
    """Let the scaled losses in a loss train the logits of a model; see ``ScaledLoss.share``.

    Args:
        loss: any loss; others have no scale, and leave the logits as they are.
        logits: of the model; None if it brings none.

    Raises:
        VSEError: if a loss asks for what the model does not bring.
    """
    for part in loss.modules():
        if isinstance(part, ScaledLoss):
            part.share(logits)


def _shared(setting: str, name: str, own: nn.Parameter, keeps: bool, logits: PairLogits | None) -> nn.Parameter:
    """A loss's parameter, which becomes that of the logits; from their value, unless it keeps its own."""
    if logits is None:
        if not keeps:
            raise VSEError(f"loss.{setting}=null: the model brings none of its own; set loss.{setting} to a number")
        return own
    if not keeps:
        with torch.no_grad():
            own.copy_(getattr(logits, name))
    setattr(logits, name, own)
    return own


def _positives(similarity: Float[Tensor, "batch batch"]) -> Bool[Tensor, "batch batch"]:
    """True on the diagonal."""
    return torch.eye(len(similarity), dtype=torch.bool, device=similarity.device)


def _log_scale(temperature: float) -> Float[Tensor, ""]:
    """Logarithm of the scale, the inverse of the temperature.

    Raises:
        VSEError: if the temperature is not above 0.
    """
    if temperature <= 0:
        raise VSEError(f"loss temperature {temperature}, expected above 0")
    return torch.tensor(-math.log(temperature))
