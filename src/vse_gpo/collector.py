"""The embeddings of a whole split, encoded batch by batch on any number of processes."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torchmetrics.utilities.distributed import gather_all_tensors

from vse_gpo.batch import Indexed
from vse_gpo.errors import VSEError
from vse_gpo.model import VSE

IMAGES, CAPTIONS = 0, 1  # order of the evaluation loaders


class Collector:
    """Encodes batches of images and of captions, and puts what it kept in the order of the split.

    Args:
        model: the two encoders.
    """

    def __init__(self, model: VSE) -> None:
        self.model = model
        self._collected: tuple[list[Indexed], list[Indexed]] = ([], [])

    def add(self, batch: Indexed, modality: int) -> None:
        """Encode a batch of images or captions and keep it."""
        encode = (self.model.image_encoder, self.model.text_encoder)[modality]
        self._collected[modality].append(Indexed(encode(batch.inputs).float(), batch.rows))

    def clear(self) -> None:
        """Forget what was kept."""
        self._collected = ([], [])

    def gather(
        self, caption_to_image: Any, *, processes: int
    ) -> tuple[Float[Tensor, "images dim"], Float[Tensor, "captions dim"]]:
        """What was kept, from all processes, in the order of the split; nothing is kept after it.

        Raises:
            VSEError: if a row of the split was not encoded.
        """
        collected = self._collected
        self.clear()
        images = _in_order(collected[IMAGES], int(caption_to_image.max()) + 1, "images", processes)
        return images, _in_order(collected[CAPTIONS], len(caption_to_image), "captions", processes)


def _in_order(collected: list[Indexed], rows: int, what: str, processes: int) -> Float[Tensor, "rows dim"]:
    """One embedding per row of the split, from all processes; an item that came twice counts once."""
    embeddings = torch.cat([part.inputs for part in collected])  # type: ignore[misc]
    index = torch.cat([part.rows for part in collected])
    if processes > 1:
        embeddings, index = torch.cat(gather_all_tensors(embeddings)), torch.cat(gather_all_tensors(index))
    seen = torch.bincount(index, minlength=rows) > 0
    if not seen.all():
        raise VSEError(f"{int((~seen).sum())} of {rows} {what} were not encoded; evaluate the whole split")
    table = torch.empty(rows, embeddings.shape[1], device=embeddings.device)
    table[index] = embeddings
    return table
