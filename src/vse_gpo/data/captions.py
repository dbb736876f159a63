"""Captions → tokens: tokenisers, and the word-level noise of size augmentation (Chen et al. 2021, section 4.3)."""

import shutil
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch

from vse_gpo.batch import Tokens, pad_sets
from vse_gpo.data.vocabulary import MASK, TreebankWords, read_vocabulary
from vse_gpo.errors import VSEError

Words = list[list[int]]  # token ids of each word
SPACE = "▁"  # begins the first piece of a word in SentencePiece
EDGES = "<start>", "<end>"  # of a caption, in a SCAN vocabulary
WATCHED = 5000  # number of words that a vocabulary is judged by


@runtime_checkable
class CaptionTokenizer(Protocol):
    """Splits a caption into words and words into token ids. Token 0 is padding."""

    vocabulary_size: int
    mask_id: int
    unknown_id: int | None  # of a word that the vocabulary does not hold; None if it holds the pieces of every word

    def words(self, caption: str) -> Words:
        """The words that noise may change."""

    def sequence(self, words: Words) -> list[int]:
        """Token ids of a whole caption, special tokens included."""

    def spell(self, word: list[int]) -> str:
        """Text of a word's token ids; empty for what is no word, as the start of a caption."""

    def save(self, folder: Path, settings: dict[str, Any]) -> dict[str, Any]:
        """Write the files it needs; return its settings, with these files named by ``inside:``."""


class TreebankVocabulary:
    """Lower-case Treebank words looked up in a SCAN vocabulary; <start> and <end> count as words.

    Abbreviations ("mr.", "st.") are the words that the vocabulary holds with a full stop. Compared to the released
    program's ``word_tokenize``, 4 of COCO's 25,000 test captions get other token ids, and none of its 5,000 dev
    captions.

    Warns if more than 5 % of the first words are unknown (0.5 % of COCO's are): training gives no other sign of
    captions that were read or split wrongly.

    Args:
        path: JSON file with word2idx, idx2word and idx; <mask> is added as the last word.
        size: number of words that the model knows, <mask> included; None accepts any.

    Raises:
        VSEError: if the file is not a vocabulary, or has a different size.
    """

    def __init__(self, path: str, size: int | None = None) -> None:
        self._path = path
        self._watched = self._unknown = 0  # numbers of words
        self._index = read_vocabulary(path)
        self.vocabulary_size = len(self._index)
        if size not in (None, self.vocabulary_size):
            raise VSEError(
                f"text.vocabulary={path}: {self.vocabulary_size} words with <mask>, the model knows {size}; give the "
                f"vocabulary that it was trained with, or for a new model text.vocabulary_size={self.vocabulary_size}"
            )
        abbreviations = {word[:-1] for word in self._index if word.endswith(".") and word[-2:-1].isalpha()}
        self._words = TreebankWords(abbreviations)
        self.mask_id = self._index[MASK]
        self.unknown_id = self._index["<unk>"]
        self._edges = {self._index.get(edge, self.unknown_id) for edge in EDGES}
        self._spellings = {token: word for word, token in self._index.items()}

    def split(self, caption: str) -> list[str]:
        """Lower-case words of a caption."""
        return self._words.split(caption)

    def words(self, caption: str) -> Words:
        words = self.split(caption)
        if self._watched < WATCHED:
            self._watch(words)
        return [[self._index.get(word, self.unknown_id)] for word in [EDGES[0], *words, EDGES[1]]]

    def sequence(self, words: Words) -> list[int]:
        return [token for word in words for token in word]

    def spell(self, word: list[int]) -> str:
        [token] = word
        return "" if token in self._edges else self._spellings[token]

    def save(self, folder: Path, settings: dict[str, Any]) -> dict[str, Any]:
        shutil.copyfile(Path(self._path).expanduser(), folder / "vocabulary.json")
        return settings | {"path": "inside:vocabulary.json"}

    def _watch(self, words: list[str]) -> None:
        self._watched += len(words)
        self._unknown += sum(word not in self._index for word in words)
        if self._watched >= WATCHED and self._unknown > 0.05 * self._watched:
            warnings.warn(
                f"{100 * self._unknown / self._watched:.0f} % of the captions' words are not in {self._path}, expected "
                "about 1 %; is it the vocabulary of this data set?",
                stacklevel=2,
            )


class WordNoise:
    """Size augmentation of captions: changes whole words, all pieces of a word together.

    Args:
        probability: that a word is noised; of these, 50 % become masks, 10 % random tokens and 40 % are dropped.
    """

    def __init__(self, probability: float = 0.2) -> None:
        if not 0.0 <= probability <= 1.0:
            raise VSEError(f"word noise with probability {probability}, expected 0 to 1")
        self.probability = probability

    def __call__(self, words: Words, tokenizer: CaptionTokenizer, random: np.random.Generator) -> Words:
        noised: Words = []
        for word, draw in zip(words, random.random(len(words)), strict=True):
            if draw >= self.probability:
                noised.append(word)
            elif draw < 0.5 * self.probability:
                noised.append([tokenizer.mask_id] * len(word))
            elif draw < 0.6 * self.probability:
                noised.append(random.integers(tokenizer.vocabulary_size, size=len(word)).tolist())
        return noised


class PrepareCaptions:
    """Captions → padded tokens.

    Args:
        tokenizer: splits captions into token ids.
        noise: applied to the words in training; None leaves them unchanged.
    """

    def __init__(self, *, tokenizer: CaptionTokenizer, noise: WordNoise | None = None) -> None:
        self.tokenizer = tokenizer
        self.noise = noise

    def __call__(self, captions: Sequence[str]) -> Tokens:
        return collate_tokens([self.encode(caption) for caption in captions])

    def save(self, folder: Path, settings: dict[str, Any]) -> dict[str, Any]:
        """Write the tokeniser's files; return these settings, with the files named."""
        return settings | {"tokenizer": self.tokenizer.save(folder, settings["tokenizer"])}

    def encode(self, caption: str, random: np.random.Generator | None = None) -> torch.Tensor:
        """Token ids (tokens,) of one caption, noised if a generator is given. Never empty."""
        words = self.tokenizer.words(caption)
        if random is not None and self.noise is not None:
            noised = self.noise(words, self.tokenizer, random)
            if self.tokenizer.sequence(noised):
                words = noised
        return torch.tensor(self.tokenizer.sequence(words))


def collate_tokens(sequences: list[torch.Tensor]) -> Tokens:
    """Pad to the longest sequence with token 0."""
    return Tokens(*pad_sets(sequences))
