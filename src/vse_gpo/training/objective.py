"""What a training step minimises: the loss of the embeddings' similarity, of the interaction's, or of both."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from vse_gpo.batch import EncoderOutput
from vse_gpo.errors import VSEError
from vse_gpo.model import EMBEDDING, INTERACTION, VSE


@dataclass(frozen=True)
class Objective:
    """A loss, summed over the kinds of similarity.

    Args:
        loss: similarity (B,B) → scalar; see ``vse_gpo.losses``.
        weights: kind of similarity, ``embedding`` or ``interaction``, → weight of its loss; of 0, it is not computed.
    """

    loss: nn.Module
    weights: Mapping[str, float]

    @property
    def kinds(self) -> list[str]:
        """Kinds of similarity that are trained."""
        return [kind for kind, weight in self.weights.items() if weight]

    def similarities(
        self, model: VSE, images: EncoderOutput, captions: EncoderOutput
    ) -> dict[str, Float[Tensor, "images captions"]]:
        """Kind → similarity, for the kinds that are trained."""
        return {kind: model.similarity(kind, images, captions) for kind in self.kinds}

    def __call__(
        self,
        similarities: Mapping[str, Float[Tensor, "batch batch"]],
        hardest: bool,
        not_negative: Bool[Tensor, "batch batch"] | None,
    ) -> Float[Tensor, ""]:
        """The weighted sum of the losses.

        Args:
            similarities: kind → similarity of the pairs of a batch.
            hardest, not_negative: as the loss takes them.
        """
        losses = [
            self.weights[kind] * self.loss(similarity, hardest, not_negative)
            for kind, similarity in similarities.items()
        ]
        return losses[0] if len(losses) == 1 else torch.stack(losses).sum()

    def loss_of(
        self,
        model: VSE,
        images: EncoderOutput,
        captions: EncoderOutput,
        *,
        hardest: bool,
        not_negative: Bool[Tensor, "batch batch"] | None,
    ) -> Float[Tensor, ""]:
        """The weighted sum of the losses of what a model has encoded.

        The similarities of embeddings and the losses are in full precision, an interaction as it says.

        Args:
            model: compares them.
            images, captions: row i of each belongs to pair i.
            hardest, not_negative: as the loss takes them.
        """
        similarities = self.similarities(model, images, captions)
        # a margin of 0.2 needs more than half precision
        with torch.autocast(images.embeddings.device.type, enabled=False):
            return self(similarities, hardest, not_negative)

    def check(self, model: VSE) -> None:
        """Refuse weights that fit no training of a model.

        Raises:
            VSEError: if the model has no similarity of a kind, a weight is negative, none is above 0, or a pooling
                would be left with weights that nothing trains.
        """
        known = [EMBEDDING] if model.interaction is None else [EMBEDDING, INTERACTION]
        if odd := [kind for kind in self.kinds if kind not in known]:
            raise VSEError(
                f"similarity_weights.{odd[0]}={self.weights[odd[0]]:g}, but the model has only {' and '.join(known)}; "
                "set interaction=maxsim or another"
            )
        if min(self.weights.values(), default=0) < 0 or not self.kinds:
            raise VSEError(f"similarity_weights={dict(self.weights)}, expected 0 or more for each, and one above 0")
        if EMBEDDING not in self.kinds:
            for part, encoder in (("image_pooling", model.image_encoder), ("text_pooling", model.text_encoder)):
                if next(encoder.pooling.parameters(), None) is not None:
                    raise VSEError(
                        f"{part}: its weights would not be trained, as the loss is only that of the interaction; set "
                        "loss=joint, or pooling=mean"
                    )
