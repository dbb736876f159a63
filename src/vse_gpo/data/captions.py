"""Captions → tokens: tokenisers, and the word-level noise of size augmentation (Chen et al. 2021, section 4.3)."""

import json
import shutil
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from vse_gpo.batch import Tokens, pad_sets
from vse_gpo.errors import VSEError
from vse_gpo.storage.hub import load_pretrained

Words = list[list[int]]  # token ids of each word
WATCHED = 5000  # words by which a vocabulary is judged


@runtime_checkable
class CaptionTokenizer(Protocol):
    """Splits a caption into words and words into token ids. Token 0 is padding."""

    vocabulary_size: int
    mask_id: int

    def words(self, caption: str) -> Words:
        """The words that noise may touch."""

    def sequence(self, words: Words) -> list[int]:
        """Token ids of a whole caption, special tokens included."""

    def save(self, folder: Path, settings: dict[str, Any]) -> dict[str, Any]:
        """Write the files it needs; the settings that built it, changed to name these by ``inside:``."""


class WordPieces:
    """The tokeniser of a Hugging Face text encoder: word pieces between its special tokens, as [CLS] and [SEP].

    What counts as a word is up to the tokeniser; its pieces are noised together.

    Args:
        pretrained: a model's name on the hub or a folder that holds its tokeniser.
        max_tokens: longer captions are cut, special tokens included, with one warning; fewer if the tokeniser says that
            its model takes fewer.
        mask_token: stands for a masked word; None takes the tokeniser's own.
        size: how many tokens the text encoder was trained on; None takes any.

    Raises:
        VSEError: if there is no tokeniser, it has no mask token or another number of tokens.
    """

    def __init__(
        self, pretrained: str, max_tokens: int = 512, mask_token: str | None = None, size: int | None = None
    ) -> None:
        remedy = "name a Hugging Face model or a folder with tokenizer.json"
        tokenizer: PreTrainedTokenizerBase = load_pretrained(
            AutoTokenizer.from_pretrained, pretrained, "text.pretrained", expected="tokeniser", remedy=remedy
        )
        vocabulary = tokenizer.get_vocab()
        made_up = vocabulary.keys() <= set(tokenizer.all_special_tokens)  # for want of a file
        if made_up or not tokenizer.is_fast:
            found = "no tokeniser there" if made_up else "its tokeniser does not tell words"
            raise VSEError(f"text.pretrained={pretrained}: {found}; {remedy}")
        mask = mask_token or tokenizer.mask_token
        if mask not in vocabulary:
            raise VSEError(
                f"text.pretrained={pretrained}: its tokeniser has no {mask_token or 'mask'} token; set "
                "text.prepare.tokenizer.mask_token to a token that stands for masked words"
            )
        if size not in (None, len(tokenizer)):
            raise VSEError(
                f"{pretrained}: a tokeniser of {len(tokenizer)} tokens, the text encoder was trained on {size}; set "
                "tokenizer= to its own"
            )
        self._tokenizer = tokenizer
        self.vocabulary_size: int = len(tokenizer)
        self.mask_id: int = vocabulary[mask]
        framed = tokenizer("a", return_special_tokens_mask=True)
        ids, special = framed["input_ids"], framed["special_tokens_mask"]
        before = special.index(0)
        self._before, self._after = ids[:before], ids[len(ids) - special[::-1].index(0) :]
        self.max_tokens = min(max_tokens, tokenizer.model_max_length)
        self._cut = False  # whether a caption was

    def words(self, caption: str) -> Words:
        encoding = self._tokenizer(caption, add_special_tokens=False, verbose=False)
        most = self.max_tokens - len(self._before) - len(self._after)
        if len(encoding["input_ids"]) > most and not self._cut:
            self._cut = True
            warnings.warn(f"captions are cut to {self.max_tokens} tokens, first {caption[:60]!r}…", stacklevel=2)
        words: Words = []
        last = None
        for token, word in zip(encoding["input_ids"][:most], encoding.word_ids(), strict=False):
            if word is None or word != last:
                words.append([])
            last = word
            words[-1].append(token)
        return words

    def sequence(self, words: Words) -> list[int]:
        return [*self._before, *(piece for word in words for piece in word), *self._after]

    def save(self, folder: Path, settings: dict[str, Any]) -> dict[str, Any]:
        self._tokenizer.save_pretrained(folder / "tokenizer")
        return settings | {"pretrained": "inside:tokenizer"}


class TreebankVocabulary:
    """Lower-case Treebank words looked up in a SCAN vocabulary; <start> and <end> count as words.

    The released program calls NLTK's ``word_tokenize``: sentences by a Punkt model that must be downloaded, then
    Treebank words, which cut a full stop off the last word of a sentence alone. Here Punkt runs without its model; the
    abbreviations it must know ("mr.", "st.") are those that the vocabulary holds with their full stop. On COCO's 25,000
    test captions 4 get other token ids than from ``word_tokenize``, on its 5,000 dev captions none.

    Warns if more than a twentieth of the first words it meets is unknown (of COCO's captions it is one in two hundred):
    captions that were read or split wrongly train without any other sign.

    Args:
        path: JSON with word2idx, idx2word and idx; a <mask> is added last.
        size: words that the model knows, <mask> included; None takes any file.

    Raises:
        VSEError: if the file is no vocabulary, or one of another size.
    """

    def __init__(self, path: str, size: int | None = None) -> None:
        from nltk.tokenize import NLTKWordTokenizer  # takes a second, with all of NLTK
        from nltk.tokenize.punkt import PunktParameters, PunktSentenceTokenizer

        self._path = path
        self._watched = self._unknown = 0  # words
        self._index = read_vocabulary(path)
        self.vocabulary_size = len(self._index)
        if size not in (None, self.vocabulary_size):
            raise VSEError(
                f"text.vocabulary={path}: {self.vocabulary_size} words with <mask>, the model knows {size}; give the "
                f"vocabulary that it was trained with, or for a new model text.vocabulary_size={self.vocabulary_size}"
            )
        language = PunktParameters()
        language.abbrev_types = {word[:-1] for word in self._index if word.endswith(".") and word[-2:-1].isalpha()}
        self._sentences = PunktSentenceTokenizer(language)
        self._words = NLTKWordTokenizer()
        self.mask_id = self._index["<mask>"]
        self.unknown_id = self._index["<unk>"]

    def split(self, caption: str) -> list[str]:
        """Lower-case words of a caption."""
        sentences = self._sentences.tokenize(caption.lower())
        return [word for sentence in sentences for word in self._words.tokenize(sentence)]

    def words(self, caption: str) -> Words:
        words = self.split(caption)
        if self._watched < WATCHED:
            self._watch(words)
        return [[self._index.get(word, self.unknown_id)] for word in ["<start>", *words, "<end>"]]

    def sequence(self, words: Words) -> list[int]:
        return [token for word in words for token in word]

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


def read_vocabulary(path: str | Path) -> dict[str, int]:
    """word → index of a SCAN vocabulary file; a <mask> is added last.

    Raises:
        VSEError: if the file is missing, is no such vocabulary or its indices have gaps.
    """
    expected = "expected a SCAN vocabulary: JSON with word2idx, idx2word and idx"
    try:
        index: dict[str, int] = json.loads(Path(path).expanduser().read_text(encoding="utf-8"))["word2idx"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise VSEError(f"text.vocabulary={path}: {type(error).__name__}: {error}; {expected}") from error
    if not isinstance(index, dict) or [index.get(word) for word in ("<pad>", "<start>", "<end>", "<unk>")] != [
        0,
        1,
        2,
        3,
    ]:
        raise VSEError(f"{path}: <pad>, <start>, <end> and <unk> are not 0 to 3; {expected}")
    if sorted(index.values()) != list(range(len(index))):
        raise VSEError(f"{path}: indices are not 0 to {len(index) - 1}; {expected}")
    return {"<mask>": len(index)} | index


class WordNoise:
    """Size augmentation of captions: noises whole words, all pieces of a word together.

    Args:
        probability: that a word is noised; half of the noised become masks, a tenth random tokens and the rest go.
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
        tokenizer: splits and numbers.
        noise: applied to the words while training; None leaves them alone.
    """

    def __init__(self, *, tokenizer: CaptionTokenizer, noise: WordNoise | None = None) -> None:
        self.tokenizer = tokenizer
        self.noise = noise

    def __call__(self, captions: Sequence[str]) -> Tokens:
        return collate_tokens([self.encode(caption) for caption in captions])

    def save(self, folder: Path, settings: dict[str, Any]) -> dict[str, Any]:
        """Write what the tokeniser needs; the settings that built this, changed to name it."""
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
    """Pad to the longest with token 0."""
    return Tokens(*pad_sets(sequences))
