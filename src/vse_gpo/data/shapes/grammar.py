"""Scenes → captions that are true but vary in words, order and detail. And a tokeniser for their words."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from vse_gpo.data.captions import Words
from vse_gpo.data.shapes.scenes import Scene, Shape

KINDS = {
    "circle": ("circle", "disc"),
    "square": ("square", "box"),
    "triangle": ("triangle",),
    "diamond": ("diamond", "rhombus"),
    "star": ("star",),
    "heart": ("heart",),
    "cross": ("cross", "plus sign"),
    "ring": ("ring", "hoop"),
    "moon": ("moon", "crescent"),
    "flower": ("flower", "blossom"),
}
COLOURS = {
    "red": ("red", "scarlet"),
    "orange": ("orange",),
    "yellow": ("yellow", "golden"),
    "green": ("green",),
    "blue": ("blue",),
    "purple": ("purple", "violet"),
    "pink": ("pink", "rosy"),
    "brown": ("brown",),
    "white": ("white",),
    "black": ("black",),
}
SIZES = {
    "small": ("small", "little", "tiny"),
    "medium": ("medium", "middling"),
    "large": ("large", "big", "huge"),
}
TEXTURES = {
    "plain": ("plain", "solid"),
    "striped": ("striped", "stripy"),
    "dotted": ("dotted", "spotted"),
    "checked": ("checked", "checkered"),
}
PATTERNS = {
    "striped": ("with stripes",),
    "dotted": ("with dots", "with spots"),
    "checked": ("with checks",),
}
UNREMARKABLE = ("medium", "plain")  # captions mostly leave these out
BACKGROUNDS = {
    "cream": ("cream", "beige"),
    "grey": ("grey", "gray"),
    "mint": ("mint", "pale green"),
    "sky": ("sky blue", "pale blue"),
    "lavender": ("lavender", "pale purple"),
    "navy": ("navy", "dark blue"),
}
SETTINGS = ("on a {} background", "against a {} background", "on a {} backdrop")
LEFT = ("left of", "to the left of", "on the left of")
RIGHT = ("right of", "to the right of", "on the right of")
ABOVE = ("above", "over", "higher than")
BELOW = ("below", "under", "beneath", "lower than")
EDGES = {  # place in the 3×3 grid: row, column
    (0, 1): ("at the top", "near the top"),
    (2, 1): ("at the bottom", "near the bottom"),
    (1, 0): ("on the left", "on the left side"),
    (1, 2): ("on the right", "on the right side"),
    (1, 1): ("in the middle", "in the centre", "in the center"),
}
CORNERS = ("in the {} {} corner", "at the {} {}", "in the {} {}")
ROWS = {0: ("top", "upper"), 2: ("bottom", "lower")}
COLUMNS = {0: "left", 2: "right"}
OPENINGS = ("", "", "a picture of ", "we see ", "there is ", "here is ", "this shows ")
SMALL_WORDS = ("a", "an", "and", "with")
SPECIAL = ("<pad>", "<start>", "<end>", "<unk>", "<mask>")

Option = TypeVar("Option")


def caption(scene: Scene, random: np.random.Generator) -> str:
    """Write one caption of a scene.

    It may leave out a third shape, an attribute, a place or the background; fewer shapes get more detail each.
    """
    shapes = [scene.shapes[i] for i in random.permutation(len(scene.shapes))]
    if len(shapes) == 3 and random.random() < 0.2:
        shapes.pop()
    detail = random.uniform(1.0 - 0.25 * len(shapes), 1.0)
    manners = (_listed, _placed) if len(shapes) == 1 else (_listed, _placed, _related)
    sentence = _pick(manners, random)(shapes, detail, random)
    setting = _pick(SETTINGS, random).format(_pick(BACKGROUNDS[scene.background], random))
    draw = random.random()
    if draw < 0.5 * detail:
        return f"{_pick(OPENINGS, random)}{sentence} {setting}"
    if draw < 0.75 * detail:
        return f"{setting}, {sentence}"
    return f"{_pick(OPENINGS, random)}{sentence}"


def _listed(shapes: Sequence[Shape], detail: float, random: np.random.Generator) -> str:
    return _join([_noun(shape, detail, random) for shape in shapes])


def _placed(shapes: Sequence[Shape], detail: float, random: np.random.Generator) -> str:
    return _join([f"{_noun(shape, detail, random)} {_place(shape, random)}" for shape in shapes])


def _related(shapes: Sequence[Shape], detail: float, random: np.random.Generator) -> str:
    first, second, *rest = shapes
    sentence = f"{_noun(first, detail, random)} {_relation(first, second, random)} {_noun(second, detail, random)}"
    for third in rest:
        if random.random() < 0.5:
            sentence += f" and {_relation(first, third, random)} {_noun(third, detail, random)}"
        else:
            sentence += f", with {_noun(third, detail, random)} {_place(third, random)}"
    return sentence


def _noun(shape: Shape, detail: float, random: np.random.Generator) -> str:
    """Name a shape with at least one of its attributes."""
    said: dict[str, str] = {}
    while not said:
        for attribute, words, likely in (
            (shape.size, SIZES, detail),
            (shape.colour, COLOURS, max(0.9, detail)),
            (shape.texture, TEXTURES, detail),
        ):
            if random.random() < (0.25 * likely if attribute in UNREMARKABLE else likely):
                said[attribute] = _pick(words[attribute], random)
    pattern = ""
    if shape.texture in said and shape.texture in PATTERNS and random.random() < 0.4:
        del said[shape.texture]
        pattern = f" {_pick(PATTERNS[shape.texture], random)}"
    adjectives = list(said.values())
    if random.random() < 0.3:
        adjectives.reverse()
    phrase = " ".join([*adjectives, _pick(KINDS[shape.kind], random)]) + pattern
    return f"{'an' if phrase[0] in 'aeiou' else 'a'} {phrase}"


def _place(shape: Shape, random: np.random.Generator) -> str:
    """Where a shape is in the image; for a corner, sometimes only one side."""
    cell = (shape.row, shape.column)
    if cell in EDGES:
        return _pick(EDGES[cell], random)
    draw = random.random()
    if draw < 0.1:
        return _pick(EDGES[shape.row, 1], random)
    if draw < 0.2:
        return _pick(EDGES[1, shape.column], random)
    return _pick(CORNERS, random).format(_pick(ROWS[shape.row], random), COLUMNS[shape.column])


def _relation(first: Shape, second: Shape, random: np.random.Generator) -> str:
    """Where the first shape is relative to the second; two shapes differ in column, in row or in both."""
    true: list[Sequence[str]] = []
    if first.column != second.column:
        true.append(LEFT if first.column < second.column else RIGHT)
    if first.row != second.row:
        true.append(ABOVE if first.row < second.row else BELOW)
    return _pick(_pick(true, random), random)


def _join(phrases: Sequence[str]) -> str:
    *most, last = phrases
    return f"{', '.join(most)} and {last}" if most else last


def _pick(options: Sequence[Option], random: np.random.Generator) -> Option:
    return options[int(random.integers(len(options)))]


class GrammarWords:
    """The tokeniser of the grammar: lower-case words between <start> and <end>; words outside the grammar are <unk>."""

    def __init__(self) -> None:
        self._spellings = [*SPECIAL, *vocabulary()]
        self._index = {word: token for token, word in enumerate(self._spellings)}
        self.mask_id = self._index["<mask>"]
        self.unknown_id = self._index["<unk>"]
        self.vocabulary_size = len(self._index)

    def words(self, caption: str) -> Words:
        return [[self._index.get(word, self.unknown_id)] for word in re.findall(r"\w+", caption.lower())]

    def save(self, folder: Path, settings: dict[str, Any]) -> dict[str, Any]:
        """Write nothing: the grammar needs no files."""
        return settings

    def sequence(self, words: Words) -> list[int]:
        return [self._index["<start>"], *(token for word in words for token in word), self._index["<end>"]]

    def spell(self, word: list[int]) -> str:
        """Text of a word's only token."""
        return self._spellings[word[0]]


def vocabulary() -> list[str]:
    """Every word that a caption can hold, in alphabetical order."""
    by_value = (KINDS, COLOURS, SIZES, TEXTURES, PATTERNS, BACKGROUNDS, EDGES, ROWS)
    phrases = [phrase for table in by_value for options in table.values() for phrase in options]
    phrases += [*COLUMNS.values(), *SETTINGS, *LEFT, *RIGHT, *ABOVE, *BELOW, *CORNERS, *OPENINGS, *SMALL_WORDS]
    return sorted({word for phrase in phrases for word in re.findall(r"\w+", phrase)})
