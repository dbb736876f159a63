"""The tokenisers of Hugging Face's text encoders."""

import warnings
from collections.abc import Iterable
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer, BatchEncoding, PreTrainedTokenizerBase

from vse_gpo.data.captions import Words
from vse_gpo.data.vocabulary import LONGEST
from vse_gpo.errors import VSEError
from vse_gpo.storage.hub import load_pretrained

SPACE = "▁"  # begins the first piece of a word in SentencePiece


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
        self.unknown_id: int | None = None  # so rare that it says nothing
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
