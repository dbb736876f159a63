"""VSE: an image encoder and a caption encoder that share one embedding space."""

from collections.abc import Callable, Sequence
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from vse_gpo.batch import Batch, ImageInputs, Tokens
from vse_gpo.encoder import Encoder


class VSE(nn.Module):
    """Two encoders; the similarity of an image and a caption is the dot product of their unit embeddings.

    Args:
        image_encoder: image inputs → unit embeddings (B, E).
        text_encoder: tokens → unit embeddings (B, E).
        prepare_images: list of images (as the encoder's transform takes them) → a batch of image inputs.
        prepare_captions: list of captions → tokens.
    """

    def __init__(
        self,
        *,
        image_encoder: Encoder,
        text_encoder: Encoder,
        prepare_images: Callable[[Sequence[Any]], ImageInputs],
        prepare_captions: Callable[[Sequence[str]], Tokens],
    ) -> None:
        super().__init__()
        self.image_encoder = image_encoder
        self.text_encoder = text_encoder
        self.prepare_images = prepare_images
        self.prepare_captions = prepare_captions

    def forward(self, batch: Batch) -> tuple[Float[Tensor, "batch dim"], Float[Tensor, "batch dim"]]:
        """Unit embeddings of the images and of the captions."""
        return self.image_encoder(batch.images), self.text_encoder(batch.tokens)
