"""Vocabularies made from captions, in the form of SCAN's."""

import sys
from pathlib import Path

import pytest

from tests.helpers.on_disk import write_texts
from vse_gpo import prepare
from vse_gpo.data.layout import caption_texts
from vse_gpo.data.sources.read import read_captions
from vse_gpo.data.sources.words import prepare_vocabulary
from vse_gpo.data.vocabulary import SPECIAL, read_vocabulary
from vse_gpo.errors import VSEError
from vse_gpo.storage.writing import write_together

CAPTIONS = {"2.jpg": ["A dog, a cat.", "Dogs run on St. Mark's street."], "1.jpg": ["a cat runs . fast", "A DOG"]}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data set whose dev split has words of its own."""
    write_texts(tmp_path / "data", "train", CAPTIONS)
    write_texts(tmp_path / "data", "dev", {"3.jpg": ["a boat", "a boat"]})
    return tmp_path / "data"


def make(source: Path, out: Path, *, min_count: int = 2, splits: tuple[str, ...] = ("train",)) -> list[str]:
    prepare_vocabulary(source=str(source), out=str(out), min_count=min_count, splits=splits, seed=0)
    return [*read_vocabulary(out)][1:]  # without <mask>


def test_words_lie_in_the_order_of_their_first_use(data: Path, tmp_path: Path) -> None:
    assert make(data, tmp_path / "v.json") == [*SPECIAL, "a", "dog", "cat", "."]
    every = make(data, tmp_path / "every.json", min_count=1)
    assert " ".join(every) == "<pad> <start> <end> <unk> a dog , cat . dogs run on st mark 's street runs fast"
    assert make(data, tmp_path / "both.json", splits=("train", "dev")) == [*SPECIAL, "a", "dog", "cat", ".", "boat"]


def test_a_list_gives_the_vocabulary_of_the_folder_that_is_made_of_it(tmp_path: Path) -> None:
    rows = [f"{image % 20}.jpg,word{image % 7} and word{image % 11}" for image in range(60)]
    source = tmp_path / "c.csv"
    source.write_text("\n".join(["image,caption", *rows]), encoding="utf-8")
    write_together(caption_texts(read_captions(source).described, tmp_path / "data", 0)[0])
    make(source, tmp_path / "of_list.json")
    make(tmp_path / "data", tmp_path / "of_folder.json")
    assert (tmp_path / "of_list.json").read_bytes() == (tmp_path / "of_folder.json").read_bytes()


def test_the_command_says_what_the_vocabulary_covers(data, tmp_path, monkeypatch, capsys) -> None:
    typed = ["vse-prepare", "vocabulary", str(data), str(tmp_path / "v.json"), "min_count=2"]
    monkeypatch.setattr(sys, "argv", [*typed])
    prepare.main()
    assert capsys.readouterr().out.splitlines() == [
        "22 words in 4 captions of train, 14 different",
        "kept 4 that occur 2 times or more: 54.55 % of all words",
        f"{tmp_path / 'v.json'}: 8 words with <pad>, <start>, <end>, <unk>",
    ]
    before = (tmp_path / "v.json").read_bytes()
    monkeypatch.setattr(sys, "argv", [*typed[:-1], "min_count=1"])
    with pytest.raises(SystemExit, match="1"):
        prepare.main()
    assert capsys.readouterr().err.endswith("exists and is something else, which models may need; name a new file\n")
    assert (tmp_path / "v.json").read_bytes() == before


@pytest.mark.parametrize(
    ("source", "changed", "message"),
    [
        ("data", {"min_count": 99}, "no word occurs 99 times in 4 captions; lower min_count="),
        ("data", {"splits": ("all",)}, "all_caps.txt: no such file"),
        ("data", {"splits": ()}, r"splits=\[\]: expected at least one"),
        ("none", {}, "none: cannot be read"),
        ("c.csv", {"splits": ("testall",)}, r"splits=\[testall\]: expected some of train, dev, test"),
    ],
)
def test_what_gives_no_vocabulary_is_told(data, tmp_path, source, changed, message) -> None:
    (tmp_path / "c.csv").write_text("image,caption\na.jpg,a dog\n", encoding="utf-8")
    with pytest.raises(VSEError, match=message):
        make(tmp_path / source, tmp_path / "v.json", **changed)
    with pytest.raises(VSEError, match="cannot be replaced"):
        make(data, tmp_path)
