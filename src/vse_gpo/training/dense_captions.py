"""Dense captions in the loss: long descriptions as further captions, and as teachers of the short ones."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from vse_gpo.batch import Batch, EncoderOutput
from vse_gpo.errors import VSEError
from vse_gpo.model import VSE
from vse_gpo.training.micro_batches import encode_captions, encode_micro_batches, encode_teachers

OPTIONS = "extra, pretraining or distillation"  # files of configs/dense


@dataclass(frozen=True, kw_only=True)
class DenseCaptions:
    """Weights of the terms of a loss, three with dense captions (after Liu et al. 2025, D2S-VSE).

    Args:
        caption_weight: of the loss of the images and their captions.
        dense_weight: of the same loss with the dense captions in the place of the captions.
        distillation_weight: of ``distillation_loss``, which pulls the captions to the dense ones.

    Raises:
        VSEError: if a weight is negative, images learn from nothing, or dense captions have no weight.
    """

    caption_weight: float
    dense_weight: float
    distillation_weight: float

    def __post_init__(self) -> None:
        for name, weight in vars(self).items():
            if not weight >= 0:
                raise VSEError(f"dense.{name}={weight}, expected at least 0")
        if self.caption_weight + self.dense_weight == 0:
            raise VSEError("dense.caption_weight=0 and dense.dense_weight=0: images learn nothing; set one above 0")
        if self.dense_weight + self.distillation_weight == 0:
            raise VSEError(
                "dense.dense_weight=0 and dense.distillation_weight=0: dense captions have no use; set one above 0, or "
                "dense=null dataset.dense=null"
            )

    @property
    def weight(self) -> float:
        """Sum of the weights of the losses with images."""
        return self.caption_weight + self.dense_weight


def encode_pairs(
    model: VSE, batch: Batch, micro_batch: int | None, weights: DenseCaptions | None
) -> tuple[EncoderOutput, ...]:
    """What a model makes of the images, of their captions and, if the loss uses them, of their dense captions.

    Args:
        model: in train mode.
        batch: pairs.
        micro_batch: pairs encoded at once; None takes the batch as a whole.
        weights: of the dense captions; None leaves them out.

    Raises:
        VSEError: if the loss uses dense captions and the batch has none.
    """
    images, captions = encode_micro_batches(model, batch, micro_batch)
    if weights is None:
        return images, captions
    if batch.dense is None:
        raise VSEError("the loss uses dense captions, and the batch has none; set dataset.dense=FILE")
    encode = encode_captions if weights.dense_weight > 0 else encode_teachers
    return images, captions, encode(model, batch.dense, micro_batch)


def whole_loss(
    loss: Callable[[EncoderOutput, EncoderOutput], Float[Tensor, ""]],
    weights: DenseCaptions | None,
    images: EncoderOutput,
    captions: EncoderOutput,
    dense: EncoderOutput | None = None,
) -> Float[Tensor, ""]:
    """The loss of what ``encode_pairs`` gives; terms without weight are not computed.

    Args:
        loss: images and captions → loss.
        weights: of the terms; None takes the loss of images and captions as it is.
        images, captions, dense: of all processes; row i of each belongs to image i.
    """
    if weights is None or dense is None:
        return loss(images, captions)
    terms = []
    if weights.caption_weight > 0:
        terms.append(weights.caption_weight * loss(images, captions))
    if weights.dense_weight > 0:
        terms.append(weights.dense_weight * loss(images, dense))
    if weights.distillation_weight > 0:
        terms.append(weights.distillation_weight * distillation_loss(captions.embeddings, dense.embeddings))
    return torch.stack(terms).sum()


def distillation_loss(student: Float[Tensor, "all dim"], teacher: Float[Tensor, "all dim"]) -> Float[Tensor, ""]:
    """Sum over the batch of 1 − cos(student, teacher); the teacher gets no gradient.

    D2S-VSE takes the mean instead, which is this loss with a weight of 1 / batch size.

    Args:
        student, teacher: unit embeddings.
    """
    return (1 - (student * teacher.detach()).sum(dim=1)).sum()


def check_dense_used(file: str | None, weights: Any | None) -> None:
    """Refuse dense captions that no loss uses, and a loss of dense captions without any.

    Args:
        file: ``dataset.dense``.
        weights: the option of group ``dense``; None uses none.

    Raises:
        VSEError: if only one of them is there.
    """
    if file is not None and weights is None:
        raise VSEError(f"dataset.dense={file}, but the loss does not use dense captions; set dense= to {OPTIONS}")
    if file is None and weights is not None:
        raise VSEError("dense= uses dense captions, but the data set has none; set dataset.dense=FILE")
