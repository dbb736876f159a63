"""Answers to a text, an image file or an image of the index: images, captions and the pooling's curve."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import cached_property, partial
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

import pyarrow.compute as pc
import torch
from jaxtyping import Float
from torch import Tensor

from vse_gpo.batch import EncoderOutput, ImageInputs, Tokens, in_precision, to_device
from vse_gpo.encoder import Encoder
from vse_gpo.errors import VSEError
from vse_gpo.model import VSE
from vse_gpo.pooling.sets import WeightsRanks
from vse_gpo.search.fitting import Judgement, judge, level_of
from vse_gpo.search.heat import grid_side, word_maps
from vse_gpo.search.index import Hit, Index
from vse_gpo.search.parts import check_unicode
from vse_gpo.search.queries import Word, encode_picture, encode_text, words_of
from vse_gpo.search.reranking import find, stored_query

LONGEST = 1000  # characters of a query
NO_MAPS = "where a word was found cannot be shown: the model's items are no grid"


class Query(NamedTuple):
    """What to search for."""

    encoded: EncoderOutput
    curve: list[float]  # coefficient of each rank in its pooling; empty if the pooling has none
    is_picture: bool
    row: int | None = None  # row in the index, if the query is one of its images
    remarks: Sequence[str] = ()
    words: Sequence[Word] = ()  # of a text, if there are maps of where they are
    text: str | None = None  # if it is one


class Answer(NamedTuple):
    """Results, best first."""

    hits: list[Hit]
    captions: list[tuple[str, float]]  # with their scores
    judgement: Judgement = Judgement(fits=None)  # whether any of them fits
    reranked: int = 0  # images of which the hits are the best by the model's interaction
    maps: Float[Tensor, "words hits side side"] | None = None  # similarity of each word and each cell of each image


class Answers:
    """Finds images of an index, and captions for an image.

    Args:
        index: index of the images.
        model: model that the index was made with.
        captions: captions to search, embedded here; without any, an image finds only images.
        precision: of the model; see ``in_precision``.
        rerank: first images of the embedding that the model's interaction re-orders; see ``choose_rerank``.
    """

    def __init__(
        self,
        index: Index,
        model: VSE,
        captions: Sequence[str] = (),
        *,
        precision: int | str = 32,
        rerank: int = 0,
    ) -> None:
        self.index = index
        self.model = model
        self.precision = precision
        self.rerank = rerank
        self.captions = list(dict.fromkeys(caption for caption in captions if caption.strip()))
        self._turn = Lock()
        self._captions = torch.empty(0, index.width)
        if self.captions:
            with self._in_precision():
                self._captions = model.encode_captions(self.captions)

    @contextmanager
    def in_turn(self) -> Iterator[None]:
        """The model for one thread only, in its precision: a tokeniser's warnings are caught for the whole process."""
        with self._turn, self._in_precision():
            yield

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
            encoded, remarks = encode_text(self.model, text)
        curve = curve_of(self.model.text_encoder, self.model.prepare_captions([text]))
        words = words_of(self.model, text) if self._side is not None else []
        if self.rerank and self._side is None:
            remarks = [*remarks, NO_MAPS]
        return Query(encoded, curve, is_picture=False, remarks=remarks, words=words, text=text)

    def picture(self, path: Path) -> Query:
        """An image file as a query.

        Raises:
            VSEError: if the file cannot be read.
        """
        try:
            with self._in_precision():
                encoded = encode_picture(self.model, path)
        except VSEError as error:
            raise VSEError(str(error).removeprefix(f"{path}: ").partition(";")[0]) from error
        return Query(encoded, self._curve_of_pictures, is_picture=True)

    def result(self, asked: object) -> Query:
        """An image of the index as a query, by its stored embedding and items.

        Args:
            asked: row of the image.

        Raises:
            VSEError: if there is no such row.
        """
        row = row_of(self.index, asked)
        stored = stored_query(self.index, row, with_items=bool(self.rerank))
        return Query(stored, self._curve_of_pictures, is_picture=True, row=row)

    def answer(self, query: Query, top: int, where: str | None = None) -> Answer:
        """The best results; an image of the index does not find itself.

        Args:
            query: what to search for.
            top: images and captions to find.
            where: condition on the images; see ``filter_sql``.
        """
        find_some = partial(find, self.index, self.model, query.encoded, without=query.row, where=where)
        hits = find_some(top=top, rerank=self.rerank)
        captions = []
        if query.is_picture and self.captions:
            found = (self._captions @ query.encoded.embeddings[0]).topk(min(top, len(self.captions)))
            captions = [(self.captions[row], score) for score, row in zip(*map(Tensor.tolist, found), strict=True)]
        judgement = Judgement(fits=None)
        if query.text is not None:
            best = [hit.score for hit in find_some(top=1)]  # by the embedding
            judgement = judge(query.text, best, self._level, self.model.prepare_captions.tokenizer)
        return Answer(hits, captions, judgement, self.rerank, self._maps(query, hits))

    def newest(self, top: int, where: str | None) -> Answer:
        """Images that meet a condition, the newest first, those without a date last; their scores are 0.

        Args:
            top: images to find.
            where: condition on the images; see ``filter_sql``.
        """
        found = self.index.table.read(["_rowoffset", "file", "date"], where=where)
        order = [("date", "descending"), ("file", "ascending")]
        first = found.take(pc.sort_indices(found, order)[:top])
        rows = zip(first["_rowoffset"].to_pylist(), first["file"].to_pylist(), strict=True)
        reason = "" if len(first) else "no image meets the conditions"
        judgement = Judgement(fits=None if len(first) else False, reason=reason)
        return Answer([Hit(row, file, 0.0) for row, file in rows], [], judgement)

    @cached_property
    def _level(self) -> float | None:
        with self._in_precision():
            return level_of(self.index, self.model)

    def _maps(self, query: Query, hits: Sequence[Hit]) -> Float[Tensor, "words hits side side"] | None:
        if self._side is None or query.encoded.items is None or not (query.words and hits):
            return None
        sets = self.index.item_sets([hit.row for hit in hits])
        return word_maps(query.words, query.encoded.items, sets, self._side)

    @property
    def _side(self) -> int | None:
        """Cells per side of the grid of the stored items; None if none are compared, or they have no places."""
        if not self.rerank or not self.index.has_items:
            return None
        return grid_side(self.model.image_encoder.backbone, self.index.table.cells)

    def _in_precision(self) -> AbstractContextManager[Any]:
        return in_precision(next(self.model.parameters()).device, self.precision)

    @cached_property
    def _curve_of_pictures(self) -> list[float]:
        """The curve of every image: all have equally many cells."""
        blank = torch.zeros(3, 8, 8, dtype=torch.uint8)
        return curve_of(self.model.image_encoder, self.model.prepare_images([blank]))


def row_of(index: Index, asked: object) -> int:
    """The row that the page was asked for, by whom ever.

    Args:
        index: that is shown.
        asked: number of a row, if it is one.

    Raises:
        VSEError: if there is no such row.
    """
    if isinstance(asked, int) and not isinstance(asked, bool) and 0 <= asked < len(index):
        return asked
    raise VSEError(f"no image {asked} in an index of {len(index)}")


@torch.inference_mode()
def curve_of(encoder: Encoder, inputs: ImageInputs | Tokens) -> list[float]:
    """The coefficients that pool one set; empty if its pooling has none that depend only on the size."""
    if not isinstance(encoder.pooling, WeightsRanks):
        return []
    device = next(encoder.parameters()).device
    features = encoder.backbone(to_device(inputs, device))
    return encoder.pooling.coefficients(features.lengths)[0].tolist()
