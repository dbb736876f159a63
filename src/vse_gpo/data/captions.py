"""Captions → tokens: tokenisers, and the word-level noise of size augmentation (Chen et al. 2021, section 4.3)."""

import shutil
import warnings
from collections.abc import Iterable, Sequence
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from transformers import AutoTokenizer, BatchEncoding, PreTrainedTokenizerBase

from vse_gpo.batch import Tokens, pad_sets
from vse_gpo.data.vocabulary import LONGEST, MASK, TreebankWords, read_vocabulary
from vse_gpo.errors import VSEError
from vse_gpo.storage.hub import load_pretrained

Words = list[list[int]]  # token ids of each word
SPACE = "▁"  # begins the first piece of a word in SentencePiece
EDGES = "<start>", "<end>"  # of a caption, in a SCAN vocabulary
WATCHED = 5000  # number of words that a vocabulary is judged by


@runtime_checkable
class CaptionTokenizer(Protocol):
    """Splits a caption into words and words into token ids. Token 0 is padding."""

    vocabulary_size: int
    mask_id: int

    def words(self, caption: str) -> Words:
        """The words that noise may change."""

    def sequence(self, words: Words) -> list[int]:
        """Token ids of a whole caption, special tokens included."""

    def spell(self, word: list[int]) -> str:
        """Text of a word's token ids; empty for what is no word, as the start of a caption."""

    def save(self, folder: Path, settings: dict[str, Any]) -> dict[str, Any]:
        """Write the files it needs; return its settings, with these files named by ``inside:``."""


class WordPieces:
    """The tokeniser of a Hugging Face text encoder: word pieces between its special tokens, such as [CLS] and [SEP].

    The tokeniser decides what a word is; the pieces of a word are noised together.

    Args:
        pretrained: a model's hub id, or a folder with its tokeniser.
        max_tokens: longest caption, special tokens included; longer ones are cut, with one warning. Lower if the
            tokeniser states a lower limit for its model.
        mask_token: token for a masked word; None uses the tokeniser's own.
        size: number of tokens that the text encoder was trained with; None accepts any.
        padded: pad every caption to ``max_tokens`` with the tokeniser's own padding, for text encoders that were
            trained to read it.
        lower_case: turn captions into lower case first, for tokenisers that do not do what their model expects.

    Raises:
        VSEError: if there is no tokeniser, or it has no mask token or a different number of tokens.
    """

    def __init__(
        self,
        pretrained: str,
        max_tokens: int = 512,
        mask_token: str | None = None,
        size: int | None = None,
        *,
        padded: bool = False,
        lower_case: bool = False,
    ) -> None:
        remedy = "name a Hugging Face model or a folder with tokenizer.json"
        tokenizer: PreTrainedTokenizerBase = load_pretrained(
            partial(AutoTokenizer.from_pretrained, trust_remote_code=False),
            pretrained,
            "text.pretrained",
            expected="tokeniser",
            remedy=remedy,
        )
        vocabulary = tokenizer.get_vocab()
        made_up = vocabulary.keys() <= set(tokenizer.all_special_tokens)  # as transformers does without a file
        if made_up or not (tokenizer.is_fast or any(piece.startswith(SPACE) for piece in vocabulary)):
            found = "no tokeniser there" if made_up else "its tokeniser gives no word boundaries"
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
        self.padded, self.lower_case = padded, lower_case
        self._cut = False  # whether a caption was cut

    def words(self, caption: str) -> Words:
        encoding = self._tokenizer(
            caption[:LONGEST].lower() if self.lower_case else caption[:LONGEST],
            add_special_tokens=False,
            split_special_tokens=True,  # "[SEP]" in a caption is text
            verbose=False,
        )
        most = self.max_tokens - len(self._before) - len(self._after)
        if len(encoding["input_ids"]) > most and not self._cut:
            self._cut = True
            warnings.warn(f"captions are cut to {self.max_tokens} tokens, first {caption[:60]!r}…", stacklevel=2)
        pieces = encoding["input_ids"][:most]
        words: Words = []
        last: object = None
        for token, word in zip(pieces, self._words_of(encoding, pieces), strict=False):
            if word is None or word != last:
                words.append([])
            last = word
            words[-1].append(token)
        return words

    def _words_of(self, encoding: BatchEncoding, pieces: list[int]) -> Iterable[int | None]:
        """Number of the word that each piece belongs to; SentencePiece marks a word's first piece by its space."""
        if self._tokenizer.is_fast:
            return encoding.word_ids()
        marked = (piece.startswith(SPACE) for piece in self._tokenizer.convert_ids_to_tokens(pieces))
        return accumulate(int(first) for first in marked)

    def sequence(self, words: Words) -> list[int]:
        ids = [*self._before, *(piece for word in words for piece in word), *self._after]
        if not self.padded:
            return ids
        padding = [self._tokenizer.pad_token_id] * (self.max_tokens - len(ids))
        return [*padding, *ids] if self._tokenizer.padding_side == "left" else [*ids, *padding]

    def spell(self, word: list[int]) -> str:
        return str(self._tokenizer.decode(word)).strip()

    def save(self, folder: Path, settings: dict[str, Any]) -> dict[str, Any]:
        self._tokenizer.save_pretrained(folder / "tokenizer")
        return settings | {"pretrained": "inside:tokenizer"}


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
