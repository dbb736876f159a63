"""Vocabularies in the form of SCAN's, and the words that they hold."""

import json
import os
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vse_gpo.data.captions import TreebankVocabulary
from vse_gpo.data.vocabulary import SPECIAL, TreebankWords, scan_json


def test_the_file_has_the_bytes_that_scans_program_writes(tmp_path: Path) -> None:
    """Its ``serialize_vocab``: json.dump of three entries, the keys of idx2word being numbers."""
    assert scan_json(["é"]) == (
        '{"word2idx": {"<pad>": 0, "<start>": 1, "<end>": 2, "<unk>": 3, "\\u00e9": 4}, '
        '"idx2word": {"0": "<pad>", "1": "<start>", "2": "<end>", "3": "<unk>", "4": "\\u00e9"}, "idx": 5}'
    )


@pytest.mark.skipif("VSE_GPO_DATA" not in os.environ, reason="VSE_GPO_DATA names no folder with vocab/")
@pytest.mark.parametrize("name", ["coco", "f30k"])
def test_scans_own_files_are_written_again_byte_for_byte(name: str) -> None:
    path = Path(os.environ["VSE_GPO_DATA"]) / "vocab" / f"{name}_precomp_vocab.json"
    words = json.loads(path.read_text(encoding="utf-8"))["word2idx"]
    assert scan_json(sorted(words, key=words.get)[len(SPECIAL) :]) == path.read_text(encoding="utf-8")


@given(captions=st.lists(st.text(alphabet="aAbu. ,!?'\"()-é1\n<>[]", max_size=40), min_size=1, max_size=4))
def test_a_tokeniser_finds_every_word_of_its_own_vocabulary(captions: list[str], tmp_path_factory) -> None:
    words = TreebankWords()
    counts = Counter(word for caption in captions for word in words.split(caption))
    path = tmp_path_factory.mktemp("vocabulary") / "v.json"
    path.write_text(scan_json([*counts]), encoding="utf-8")
    tokenizer = TreebankVocabulary(str(path))
    tokens = [token for caption in captions for word in tokenizer.words(caption) for token in word]
    assert tokenizer.unknown_id not in tokens
