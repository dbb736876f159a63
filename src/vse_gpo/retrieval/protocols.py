"""Named protocols: which queries meet which gallery. The names are part of every metric's key."""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vse_gpo.errors import VSEError
from vse_gpo.retrieval.recalls import Array, Metrics, image_caption_recalls

Protocol = Callable[
    [Float[Tensor, "images dim"], Float[Tensor, "captions dim"], Int[Tensor, " captions"]],
    Metrics,
]


def evaluate(
    image_embeddings: Array, caption_embeddings: Array, *, caption_to_image: Array, protocols: Sequence[str]
) -> dict[str, Metrics]:
    """{protocol: metrics} for each named protocol; see ``image_caption_recalls`` for the arguments.

    Raises:
        VSEError: if a protocol is unknown or made for another number of images.
    """
    images, captions = torch.as_tensor(image_embeddings), torch.as_tensor(caption_embeddings)
    index = torch.as_tensor(caption_to_image, dtype=torch.long)
    for name in protocols:
        if name not in PROTOCOLS:
            raise VSEError(f"unknown protocol {name}, expected some of {', '.join(PROTOCOLS)}")
    return {name: PROTOCOLS[name](images, captions, index) for name in protocols}


def _of_size(name: str, expected: int, protocol: Protocol) -> Protocol:
    def checked(images: Tensor, captions: Tensor, caption_to_image: Tensor) -> Metrics:
        if len(images) != expected:
            raise VSEError(f"protocol {name} is defined on {expected} images, found {len(images)}; use protocol all")
        return protocol(images, captions, caption_to_image)

    return checked


def five_folds(images: Tensor, captions: Tensor, caption_to_image: Tensor) -> Metrics:
    """The mean over five consecutive fifths of the images."""
    size = len(images) // 5
    folds = []
    for first in range(0, 5 * size, size):
        inside = (caption_to_image >= first) & (caption_to_image < first + size)
        folds.append(
            image_caption_recalls(images[first : first + size], captions[inside], caption_to_image[inside] - first)
        )
    return {metric: sum(fold[metric] for fold in folds) / len(folds) for metric in folds[0]}


PROTOCOLS: dict[str, Protocol] = {
    "all": image_caption_recalls,
    "coco_5k": _of_size("coco_5k", 5000, image_caption_recalls),
    "coco_1k_5fold": _of_size("coco_1k_5fold", 5000, five_folds),
    "f30k_1k": _of_size("f30k_1k", 1000, image_caption_recalls),
    "f8k_1k": _of_size("f8k_1k", 1000, image_caption_recalls),
}
