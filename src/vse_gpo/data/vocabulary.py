"""Vocabularies in SCAN's form (Lee et al. 2018): how captions are split into words, and which words are kept."""

import json
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path

from vse_gpo.data.caption_lists import read_captions
from vse_gpo.data.files import read_lines
from vse_gpo.data.sources import SPLITS, by_split
from vse_gpo.errors import VSEError, first_line
from vse_gpo.storage.writing import write_text

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


def prepare_vocabulary(*, source: str, out: str, min_count: int, splits: Sequence[str], seed: int) -> None:
    """Write the vocabulary of a data set's captions in the order of their first use, and print how much it covers.

    Args:
        source: the data set's folder, or a caption list as ``vse-prepare`` reads it.
        out: vocabulary file.
        min_count: how often a word must occur to be kept.
        splits: whose captions are counted.
        seed: assigns images to splits, if a list has none.

    Raises:
        VSEError: if the captions cannot be read, no word is kept, or ``out`` is another vocabulary, which models may
            need.
    """
    captions = captions_of(Path(source).expanduser(), splits, seed)
    words = TreebankWords()
    counts = Counter(word for caption in captions for word in words.split(caption))
    kept = [word for word, count in counts.items() if count >= min_count]
    if not kept:
        raise VSEError(f"{source}: no word occurs {min_count} times in {len(captions):,} captions; lower min_count=")
    file, text = Path(out).expanduser(), scan_json(kept)
    if file.exists() and _differs(file, text):
        raise VSEError(f"{out}: exists and is something else, which models may need; name a new file")
    write_text(file, text)
    known = sum(counts[word] for word in kept)
    print(f"{counts.total():,} words in {len(captions):,} captions of {', '.join(splits)}, {len(counts):,} different")
    print(f"kept {len(kept):,} that occur {min_count} times or more: {100 * known / counts.total():.2f} % of all words")
    print(f"{out}: {len(kept) + len(SPECIAL):,} words with {', '.join(SPECIAL)}")


def captions_of(source: Path, splits: Sequence[str], seed: int) -> list[str]:
    """The captions of some splits, split by split, each image's together.

    Args:
        source, splits, seed: see ``prepare_vocabulary``.

    Raises:
        VSEError: if they cannot be read.
    """
    if not splits:
        raise VSEError("splits=[]: expected at least one")
    if source.is_dir():
        return [caption for name in splits for caption in read_lines(source / "precomp" / f"{name}_caps.txt")]
    if unknown := [name for name in splits if name not in SPLITS.values()]:
        raise VSEError(f"splits=[{unknown[0]}]: expected some of {', '.join(dict.fromkeys(SPLITS.values()))}")
    images = by_split(read_captions(source).described, seed)
    return [one.caption for name in splits for own in images[name].values() for one in own]


def _differs(file: Path, text: str) -> bool:
    try:
        return file.read_text(encoding="utf-8") != text
    except (OSError, ValueError) as error:
        raise VSEError(f"{file}: cannot be replaced ({first_line(error)}); name a new file") from error
