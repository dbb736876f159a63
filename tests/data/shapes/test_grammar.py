"""Captions of the embedded data set: they tell the truth about their pictures, in words that the tokeniser knows."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from omegaconf import OmegaConf

from tests.helpers.drawn_scenes import tiny_shapes
from vse_gpo.cli.run import config_folder
from vse_gpo.data.shapes import GrammarWords, grammar
from vse_gpo.data.shapes.scenes import Scene, Shape

# a reader of its own, who knows the words but not how they were chosen

NOUNS = {word: kind for kind, words in grammar.KINDS.items() for word in words}
ADJECTIVES = {
    word: (attribute, value)
    for attribute, table in (
        ("colour", grammar.COLOURS),
        ("size", grammar.SIZES),
        ("texture", grammar.TEXTURES),
        ("texture", grammar.PATTERNS),
    )
    for value, words in table.items()
    for word in words
}
RELATIONS = {
    **dict.fromkeys(grammar.LEFT, lambda a, b: a.x < b.x - a.radius / 2),
    **dict.fromkeys(grammar.RIGHT, lambda a, b: a.x > b.x + a.radius / 2),
    **dict.fromkeys(grammar.ABOVE, lambda a, b: a.y < b.y - a.radius / 2),
    **dict.fromkeys(grammar.BELOW, lambda a, b: a.y > b.y + a.radius / 2),
}
PLACES = {"top": ("row", 0), "upper": ("row", 0), "bottom": ("row", 2), "lower": ("row", 2)}
PLACES |= {"left": ("column", 0), "right": ("column", 2)}


def any_of(phrases: Iterable[str]) -> str:
    return "|".join(sorted(phrases, key=len, reverse=True))


ADJECTIVE, NOUN, RELATION = any_of(ADJECTIVES), any_of(NOUNS), any_of(RELATIONS)
MENTION = re.compile(rf"\ban? ((?:(?:{ADJECTIVE}) )*)({NOUN})\b((?: (?:{ADJECTIVE}))?)")
SETTING = re.compile(r"(?:on|against) a (\D+) (?:background|backdrop)")


class Mention(NamedTuple):
    """A shape that a caption tells of, and what it says of it."""

    facts: list[tuple[str, str]]
    relation: str | None  # of the caption's first shape to this one
    place: str

    def fits(self, shape: Shape) -> bool:
        return all(getattr(shape, name) == value for name, value in self.facts) and self.fits_place(shape)

    def fits_place(self, shape: Shape) -> bool:
        if "middle" in self.place or "cent" in self.place:
            return (shape.column, shape.row) == (1, 1)
        return all(getattr(shape, axis) == cell for word, (axis, cell) in PLACES.items() if word in self.place)


class Reading(NamedTuple):
    """What a caption says."""

    backgrounds: list[str]  # that it may mean; none where it is silent
    mentions: list[Mention]

    def is_true_of(self, scene: Scene) -> bool:
        if self.backgrounds and scene.background not in self.backgrounds:
            return False
        fitting = [[shape for shape in scene.shapes if mention.fits(shape)] for mention in self.mentions]
        return all(fitting) and all(
            mention.relation is None or any(RELATIONS[mention.relation](a, b) for a in fitting[0] for b in here)
            for mention, here in zip(self.mentions, fitting, strict=True)
        )


def read(caption: str) -> Reading:
    backgrounds = []
    if setting := SETTING.search(caption):
        backgrounds = [name for name, words in grammar.BACKGROUNDS.items() if setting[1] in words]
        caption = caption.replace(setting[0], "")
    found = list(MENTION.finditer(caption))
    ends = [mention.start() for mention in found[1:]] + [len(caption)]
    mentions, before = [], ""
    for mention, end in zip(found, ends, strict=True):
        after = caption[mention.end() : end]
        relation = re.search(RELATION, before)
        facts = [ADJECTIVES[word] for words in (mention[1], mention[3]) for word in re.findall(ADJECTIVE, words)]
        place = "" if re.search(RELATION, after) else after
        mentions.append(Mention([*facts, ("kind", NOUNS[mention[2]])], relation and relation[0], place))
        before = after
    return Reading(backgrounds, mentions)


def test_captions_are_true_of_their_picture_and_hardly_any_other(shapes, test_split):
    """One caption fits few of the 500 pictures beside its own; the five of a picture together hardly ever another."""
    scenes = shapes.scenes["test"]
    readings = [read(caption) for caption in test_split.captions[:500]]
    assert all(reading.mentions for reading in readings)
    fits = np.array([[reading.is_true_of(scene) for scene in scenes] for reading in readings]).reshape(100, 5, 500)
    own = np.arange(100)
    lies = [test_split.captions[5 * row + which] for row, which in np.argwhere(~fits[own, :, own])]
    assert lies == []
    assert fits.sum(2).mean() < 2  # with its own
    assert fits.all(1).sum() <= 102


def test_captions_vary(test_split):
    captions = test_split.captions
    assert len({MENTION.sub("*", caption) for caption in captions}) > 300
    assert sum(bool(re.search(RELATION, caption)) for caption in captions) > 500
    assert {len(read(caption).mentions) for caption in captions} == {1, 2, 3}


@pytest.mark.parametrize("values", [grammar.KINDS, grammar.COLOURS, grammar.SIZES, grammar.TEXTURES])
def test_no_word_means_two_things(values):
    words = [word for options in values.values() for word in options]
    assert len(words) == len(set(words))


# tokens


def test_the_vocabulary_holds_the_words_of_all_captions_and_no_others(test_split):
    written = {word for caption in test_split.captions for word in re.findall(r"\w+", caption)}
    assert written == set(grammar.vocabulary())


def test_a_query_in_plain_words_needs_no_unknown_word():
    words = GrammarWords()
    assert words.words("A red circle left of a blue square.") == words.words("a red circle left of a blue square")
    unknown = words.words("zeppelin")
    assert unknown not in [[word] for word in words.words("a red circle left of a blue square")]


def test_tokens_lie_between_start_and_end_and_never_reach_the_vocabulary_size():
    words = GrammarWords()
    captions = tiny_shapes().split("dev").captions
    sequences = [words.sequence(words.words(caption)) for caption in captions]
    assert {(tokens[0], tokens[-1]) for tokens in sequences} == {(1, 2)}
    assert {token for tokens in sequences for token in tokens} < set(range(words.vocabulary_size))
    assert words.sequence([]) == [1, 2]
    assert [words.spell(word) for word in words.words("A red zebra")] == ["a", "red", "<unk>"]


def test_the_config_knows_the_size_of_the_vocabulary():
    config = OmegaConf.load(Path(config_folder()) / "text" / "small.yaml")
    assert config.network.vocabulary_size == GrammarWords().vocabulary_size
