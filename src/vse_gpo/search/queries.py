"""A text or an image as a query: its embedding, its items, its words, and the tokeniser's warnings about it."""

import warnings
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch

from vse_gpo.batch import EncoderOutput, ImageInputs, Indexed, Tokens, encode_batches
from vse_gpo.encoder import Encoder
from vse_gpo.errors import VSEError
from vse_gpo.model import VSE
from vse_gpo.search.combining import combine_parts
from vse_gpo.search.parts import Part, check_unicode
from vse_gpo.search.pictures import open_picture


class Word(NamedTuple):
    """A word of a query."""

    text: str
    items: range  # its items among those of the text: several, if it is made of pieces


def encode_text(model: VSE, text: str) -> tuple[EncoderOutput, list[str]]:
    """What a model compares of a text, and the tokeniser's warnings, for example that the text is cut."""
    with warnings.catch_warnings(record=True) as remarks:
        warnings.simplefilter("always")
        found = _encoded(model, model.text_encoder, model.prepare_captions([text]))
    return found, [str(remark.message) for remark in remarks if remark.category is UserWarning]


def encode_picture(model: VSE, path: Path) -> EncoderOutput:
    """What a model compares of an image file.

    Raises:
        VSEError: if it cannot be read.
    """
    return _encoded(model, model.image_encoder, model.prepare_images([open_picture(path)]))


def encode_parts(model: VSE, parts: Sequence[Part]) -> tuple[EncoderOutput, list[str]]:
    """What a model compares of a query, and the tokeniser's warnings; only a query of one part has items.

    Args:
        model: of the index.
        parts: of the query.

    Raises:
        VSEError: if there is no part, a text is not UTF-8, an image cannot be read, or the parts cancel out.
    """
    if not parts:
        raise VSEError('nothing to look for; add "a text" or image=FILE')
    found, remarks = [], []
    for part in parts:
        check_unicode(part.content)
        if part.is_image:
            found.append(encode_picture(model, Path(part.content).expanduser()))
        else:
            encoded, told = encode_text(model, part.content)
            found.append(encoded)
            remarks += told
    if len(parts) == 1 and parts[0].weight > 0:
        return found[0], remarks
    embeddings = torch.cat([one.embeddings for one in found])
    return EncoderOutput(combine_parts(embeddings, [part.weight for part in parts]), None), remarks


def _encoded(model: VSE, encoder: Encoder, inputs: ImageInputs | Tokens) -> EncoderOutput:
    """The embedding on the CPU; items, for models that compare them, where the model is."""
    encode = partial(encoder.output, with_items=model.interaction is not None)
    device = next(encoder.parameters()).device
    [found] = encode_batches(encode, [Indexed(inputs, torch.arange(1))], device)
    embeddings, items = found.embeddings
    return EncoderOutput(embeddings.cpu(), items)


def words_of(model: VSE, text: str) -> list[Word]:
    """The words of a text that have items of their own.

    Args:
        model: whose tokeniser says what a word is.
        text: as it was encoded.
    """
    tokenizer = model.prepare_captions.tokenizer
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they were told when the text was encoded
        pieces = tokenizer.words(text)
    place = _place(tokenizer.sequence(pieces), [token for word in pieces for token in word])
    first = model.text_encoder.backbone.whole_items + place
    words = []
    for word in pieces:
        words.append(Word(tokenizer.spell(word), range(first, first + len(word))))
        first += len(word)
    return [word for word in words if word.text]


def _place(tokens: Sequence[int], inner: Sequence[int]) -> int:
    """Where a sequence begins in another, behind special tokens and padding."""
    return next(at for at in range(len(tokens) + 1) if [*tokens[at : at + len(inner)]] == [*inner])
