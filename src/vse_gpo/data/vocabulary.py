"""Vocabularies in SCAN's form (Lee et al. 2018): how captions are split into words, and which words are kept."""

import json
from collections.abc import Collection, Sequence
from pathlib import Path

from vse_gpo.errors import VSEError

SPECIAL = ("<pad>", "<start>", "<end>", "<unk>")  # the first words of every vocabulary
MASK = "<mask>"  # added as the last word when one is read
LONGEST = 100_000  # characters of a caption that are split


class TreebankWords:
    """Splits captions into lower-case Treebank words.

    The released program calls NLTK's ``word_tokenize``: sentences by a Punkt model that must be downloaded, then
    Treebank words, which split off a full stop only at the end of a sentence. Here Punkt runs without its model.

    Args:
        abbreviations: words that a full stop belongs to, without it.
    """

    def __init__(self, abbreviations: Collection[str] = ()) -> None:
        from nltk.tokenize import NLTKWordTokenizer, punkt  # noqa: PLC0415, takes a second: imports all of NLTK

        language = punkt.PunktParameters()
        language.abbrev_types = set(abbreviations)
        self._sentences = punkt.PunktSentenceTokenizer(language)
        self._words = NLTKWordTokenizer()

    def split(self, caption: str) -> list[str]:
        """The words of a caption."""
        sentences = self._sentences.tokenize(caption[:LONGEST].lower())
        return [word for sentence in sentences for word in self._words.tokenize(sentence)]


def read_vocabulary(path: str | Path) -> dict[str, int]:
    """Read a SCAN vocabulary file as word → index; <mask> is added as the last word.

    Raises:
        VSEError: if the file is missing or not such a vocabulary, or its indices have gaps.
    """
    expected = "expected a SCAN vocabulary: JSON with word2idx, idx2word and idx"
    try:
        index: dict[str, int] = json.loads(Path(path).expanduser().read_text(encoding="utf-8-sig"))["word2idx"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise VSEError(f"text.vocabulary={path}: {type(error).__name__}: {error}; {expected}") from error
    if isinstance(index, dict) and not all(type(number) is int for number in index.values()):
        raise VSEError(f"{path}: words whose index is not a whole number; {expected}")
    if not isinstance(index, dict) or [index.get(word) for word in SPECIAL] != [*range(len(SPECIAL))]:
        raise VSEError(f"{path}: <pad>, <start>, <end> and <unk> are not 0 to 3; {expected}")
    if sorted(index.values()) != list(range(len(index))):
        raise VSEError(f"{path}: indices are not 0 to {len(index) - 1}; {expected}")
    return {MASK: len(index)} | index


def scan_json(words: Sequence[str]) -> str:
    """The text of a vocabulary file, byte for byte as SCAN's program writes it.

    Args:
        words: without the special ones.
    """
    every = [*SPECIAL, *words]
    index = {word: number for number, word in enumerate(every)}
    return json.dumps({"word2idx": index, "idx2word": dict(enumerate(every)), "idx": len(every)})
