"""Answers to a text, an image file or an image of the index: images, captions and the pooling's curve."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from vse_gpo.batch import ImageInputs, Tokens, in_precision, to_device
from vse_gpo.encoder import Encoder
from vse_gpo.errors import VSEError
from vse_gpo.model import VSE
from vse_gpo.pooling.sets import WeightsRanks
from vse_gpo.search.index import Index
from vse_gpo.search.pictures import open_picture
from vse_gpo.search.texts import check_unicode, embed_text

LONGEST = 1000  # characters of a query


class Query(NamedTuple):
    """What to search for."""

    embedding: Float[Tensor, "1 dim"]
    curve: list[float]  # coefficient of each rank in its pooling; empty if the pooling has none
    is_picture: bool
    row: int | None = None  # row in the index, if the query is one of its images
    remarks: Sequence[str] = ()


class Hit(NamedTuple):
    """A found image of the index."""

    row: int
    file: str
    score: float


class Answer(NamedTuple):
    """Results, best first."""

    hits: list[Hit]
    captions: list[tuple[str, float]]  # with their scores


class Answers:
    """Finds images of an index, and captions for an image.

    Args:
        index: index of the images.
        model: model that the index was made with.
        captions: captions to search, embedded here; without any, an image finds only images.
        precision: of the model; see ``in_precision``.
    """

    def __init__(self, index: Index, model: VSE, captions: Sequence[str] = (), *, precision: int | str = 32) -> None:
        self.index = index
        self.model = model
        self.precision = precision
        self.captions = list(dict.fromkeys(caption for caption in captions if caption.strip()))
        self._captions = torch.empty(0, index.width)
        if self.captions:
            with self._in_precision():
                self._captions = model.encode_captions(self.captions)
        self._rows = {picture.file: row for row, picture in enumerate(index.pictures)}

    def text(self, text: str) -> Query:
        """A text as a query.

        Raises:
            VSEError: if it is empty, too long or not Unicode.
        """
        if not text.strip():
            raise VSEError("nothing to look for; type what the image shows, or choose an image")
        if len(text) > LONGEST:
            raise VSEError(f"a query of {len(text):,} characters, expected at most {LONGEST:,}")
        check_unicode(text)
        with self._in_precision():
            embedding, remarks = embed_text(self.model, text)
        words = self.model.prepare_captions([text])
        return Query(embedding, curve_of(self.model.text_encoder, words), is_picture=False, remarks=remarks)

    def picture(self, path: Path) -> Query:
        """An image file as a query.

        Raises:
            VSEError: if the file cannot be read.
        """
        try:
            with self._in_precision():
                embedding = self.model.encode_images([open_picture(path)])
        except VSEError as error:
            raise VSEError(str(error).removeprefix(f"{path}: ").partition(";")[0]) from error
        return Query(embedding, self._curve_of_pictures, is_picture=True)

    def result(self, row: int) -> Query:
        """An image of the index as a query, by its stored embedding.

        Raises:
            VSEError: if there is no such row.
        """
        if not 0 <= row < len(self.index):
            raise VSEError(f"no image {row} in an index of {len(self.index)}")
        embedding = torch.from_numpy(self.index.embeddings()[row : row + 1].copy())
        return Query(embedding, self._curve_of_pictures, is_picture=True, row=row)

    def answer(self, query: Query, top: int) -> Answer:
        """The best results; an image of the index does not find itself."""
        [scores], [files] = self.index.search(query.embedding, top + (query.row is not None))
        hits = [Hit(self._rows[file], file, score) for score, file in zip(scores, files, strict=True)]
        captions = []
        if query.is_picture and self.captions:
            found = (self._captions @ query.embedding[0]).topk(min(top, len(self.captions)))
            captions = [(self.captions[row], score) for score, row in zip(*map(Tensor.tolist, found), strict=True)]
        return Answer([hit for hit in hits if hit.row != query.row][:top], captions)

    def _in_precision(self) -> AbstractContextManager[Any]:
        return in_precision(next(self.model.parameters()).device, self.precision)

    @cached_property
    def _curve_of_pictures(self) -> list[float]:
        """The curve of every image: all have equally many cells."""
        blank = torch.zeros(3, 8, 8, dtype=torch.uint8)
        return curve_of(self.model.image_encoder, self.model.prepare_images([blank]))


@torch.inference_mode()
def curve_of(encoder: Encoder, inputs: ImageInputs | Tokens) -> list[float]:
    """The coefficients that pool one set; empty if its pooling has none that depend only on the size."""
    if not isinstance(encoder.pooling, WeightsRanks):
        return []
    device = next(encoder.parameters()).device
    features = encoder.backbone(to_device(inputs, device))
    return encoder.pooling.coefficients(features.lengths)[0].tolist()
