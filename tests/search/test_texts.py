"""A text as a query: its embedding, and what the tokeniser remarks on it."""

import warnings

import pytest
import torch

from tests.helpers.photo_folder import small_model
from vse_gpo.errors import VSEError
from vse_gpo.search.texts import check_unicode, embed_text


def test_a_text_is_embedded_as_the_model_does_without_a_remark():
    model = small_model()
    embedding, remarks = embed_text(model, "a red circle")
    assert torch.equal(embedding, model.encode_captions(["a red circle"]))
    assert remarks == []


def test_the_tokenisers_remarks_are_handed_on_and_other_warnings_are_not():
    model = small_model()
    prepare = model.prepare_captions

    def remarking(captions):
        warnings.warn("captions are cut to 4 tokens", stacklevel=2)
        warnings.warn("an old call", DeprecationWarning, stacklevel=2)
        return prepare(captions)

    model.prepare_captions = remarking
    for _ in range(2):  # every time
        assert embed_text(model, "a red circle")[1] == ["captions are cut to 4 tokens"]


@pytest.mark.parametrize("text", ["", "ein grüner Kreis 🟢 赤い", "\0"])
def test_unicode_is_a_text(text):
    check_unicode(text)


def test_what_is_no_unicode_is_told():
    with pytest.raises(VSEError, match="the query is not UTF-8; type it in a terminal that is"):
        check_unicode("a \ud800 dog")
