"""Whether anything in a collection fits a query.

Scores have another scale for every model and collection. So it is measured what texts reach that the collection does
not hold: pairs of words, drawn from the model's own vocabulary, hardly ever name what is on an image. A query fits if
its best image scores higher than most of them. On real photographs this tells better than how far the best image stands
out among the query's own scores, or among those of other texts for the same image.
"""

import json
import re
import warnings
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vse_gpo.data.captions import CaptionTokenizer
from vse_gpo.errors import VSEError
from vse_gpo.model import VSE
from vse_gpo.search.index import Index
from vse_gpo.storage.writing import write_text

FILE = "level.json"  # in the folder of an index
TEXTS, SHARE = 200, 2 / 3  # texts that are drawn, and how many of them a query has to beat
WORD = re.compile(r"[a-z]{3,}")


class Level(NamedTuple):
    """The score that a query has to reach on an index."""

    score: float | None  # None if it is not known: no words can be drawn
    fingerprint: str  # of the model
    version: int  # of the index's table


def level_of(index: Index, model: VSE) -> float | None:
    """The level of an index: measured at the first query, and again after the index was changed.

    It is kept beside the index, if files can be written there.

    Args:
        index: to be searched.
        model: of the index.

    Raises:
        VSEError: if the model is broken.
    """
    place = index.table.folder / FILE
    known = _read(place)
    current = Level(None, index.settings.fingerprint, index.settings.version)
    if known is not None and known[1:] == current[1:]:
        return known.score
    current = current._replace(score=measured(index, model))
    with suppress(VSEError):  # a folder that cannot be written to is measured every time
        write_text(place, json.dumps(current._asdict()) + "\n")
    return current.score


def _read(place: Path) -> Level | None:
    try:
        found = Level(**json.loads(place.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
    return found if isinstance(found.score, float | None) else None


def measured(index: Index, model: VSE) -> float | None:
    """The score that most texts do not reach of which the collection holds nothing.

    Args:
        index: to be searched.
        model: of the index.
    """
    texts = foreign_texts(model.prepare_captions.tokenizer, np.random.default_rng(0))
    if not texts:
        return None
    found = index.hits(model.encode_captions(texts), 1)
    return float(np.quantile([hits[0].score for hits in found if hits], SHARE))


def foreign_texts(tokenizer: CaptionTokenizer, random: np.random.Generator, count: int = TEXTS) -> list[str]:
    """Pairs of words from a tokeniser's vocabulary; none if it has too few whole words.

    Args:
        tokenizer: of the model.
        random: draws them.
        count: of texts.
    """
    words: list[str] = []
    for token in random.permutation(tokenizer.vocabulary_size)[: 100 * count].tolist():
        word = tokenizer.spell([token])
        if WORD.fullmatch(word) and [one for one in map(tokenizer.spell, tokenizer.words(word)) if one] == [word]:
            words.append(word)
        if len(words) == 2 * count:
            break
    if len(words) < 20:
        return []
    pairs = random.choice(words, (count, 2))
    return [f"a {first} {second}" for first, second in pairs.tolist()]


def unknown_words(tokenizer: CaptionTokenizer, text: str) -> list[str]:
    """The words of a text that a model has never seen.

    Args:
        tokenizer: of the model.
        text: as it was asked.
    """
    if tokenizer.unknown_id is None:
        return []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they are told of the whole text
        return [
            word
            for word in dict.fromkeys(re.findall(r"\w+", text))
            if any(tokenizer.unknown_id in part and tokenizer.spell(part) for part in tokenizer.words(word))
        ]


class Judgement(NamedTuple):
    """Whether anything fits a query."""

    fits: bool | None  # None if it cannot be told
    reason: str = ""  # why nothing fits


def judge(text: str, best: Sequence[float], level: float | None, tokenizer: CaptionTokenizer) -> Judgement:
    """Whether anything fits a text.

    Args:
        text: of the query.
        best: score of its best image; empty if no image meets the conditions.
        level: see ``level_of``.
        tokenizer: of the model.
    """
    if not best:
        return Judgement(fits=False, reason="no image meets the conditions")
    if unknown := unknown_words(tokenizer, text):
        return Judgement(fits=False, reason=f"the model does not know {', '.join(unknown)}")
    if level is None:
        return Judgement(fits=None)
    if best[0] < level:
        return Judgement(fits=False, reason=f"the best score is {best[0]:.3f}, expected {level:.3f} at least")
    return Judgement(fits=True)
