"""The embedded data set: what it promises, and that its captions tell the truth about its pictures."""

import math
import re
from collections.abc import Iterable
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from vse_gpo.cli.run import config_folder
from vse_gpo.data.shapes import GrammarWords, ShapesDataset, grammar
from vse_gpo.data.shapes.drawing import draw
from vse_gpo.data.shapes.scenes import BACKGROUNDS, INKS, KINDS, RADII, TEXTURES, Scene, Shape, sample_scene
from vse_gpo.data.split import Split
from vse_gpo.errors import VSEError


@pytest.fixture(scope="module")
def shapes() -> ShapesDataset:
    return ShapesDataset(train=60, dev=20, test=500, size=16, captions=5, seed=0)


@pytest.fixture(scope="module")
def test_split(shapes: ShapesDataset) -> Split:
    return shapes.split("test")


def tiny(*, train: int = 10, seed: int = 0) -> ShapesDataset:
    return ShapesDataset(train=train, dev=10, test=10, size=64, captions=5, seed=seed)


def some_scenes(count: int) -> list[Scene]:
    random = np.random.default_rng(7)
    return [sample_scene(random) for _ in range(count)]


def alone(**attributes: object) -> Scene:
    """A scene of one shape in the middle of a grey picture."""
    shape = Shape(
        kind="circle",
        colour="red",
        size="large",
        texture="plain",
        column=1,
        row=1,
        x=0.5,
        y=0.5,
        radius=RADII["large"],
        angle=0.0,
    )
    return Scene(background="grey", shapes=(replace(shape, **attributes),))


# the data set


@pytest.mark.parametrize("name", ["train", "dev", "test"])
def test_the_same_seed_gives_the_same_split_on_every_call(name):
    first, second = tiny().split(name), tiny().split(name)
    assert first.captions == second.captions
    assert all(torch.equal(first.images[row], second.images[row]) for row in range(10))


def test_another_seed_gives_other_scenes():
    one, other = ({scene.description for scene in tiny(seed=seed).scenes["test"]} for seed in (0, 1))
    assert not one & other


def test_dev_and_test_do_not_depend_on_the_size_of_train():
    one, other = tiny(), tiny(train=20)
    assert one.scenes["test"] == other.scenes["test"]
    assert one.scenes["dev"] == other.scenes["dev"]
    assert one.split("dev").captions == other.split("dev").captions


def test_a_split_has_its_images_and_five_captions_for_each(shapes):
    split = shapes.split("dev")
    assert len(split.images) == 20
    assert len(split.captions) == 100
    assert split.caption_to_image.tolist() == [row for row in range(20) for _ in range(5)]
    assert {(split.images[row].shape, split.images[row].dtype) for row in range(20)} == {((3, 16, 16), torch.uint8)}
    assert split.images.name(3) == split.image_ids[3] == "dev_00003"


def test_no_two_scenes_of_all_splits_have_one_description(shapes):
    descriptions = [scene.description for scenes in shapes.scenes.values() for scene in scenes]
    assert len(descriptions) == 580
    assert len(set(descriptions)) == 580


def test_no_two_test_images_share_a_caption_or_a_picture(test_split):
    assert len(set(test_split.captions)) == 2500
    assert len({test_split.images[row].numpy().tobytes() for row in range(500)}) == 500


def test_an_unknown_split_is_named_with_the_known_ones(shapes):
    with pytest.raises(VSEError, match="no split 'val', expected one of dev, test, train"):
        shapes.split("val")


# scenes


def test_scenes_hold_one_to_three_shapes_that_lie_apart_inside_the_picture():
    scenes = some_scenes(300)
    assert {len(scene.shapes) for scene in scenes} == {1, 2, 3}
    for scene in scenes:
        for shape in scene.shapes:
            assert shape.radius <= min(shape.x, shape.y) <= max(shape.x, shape.y) <= 1 - shape.radius
            assert (int(3 * shape.x), int(3 * shape.y)) == (shape.column, shape.row)
        for a, b in combinations(scene.shapes, 2):
            assert (a.x - b.x) ** 2 + (a.y - b.y) ** 2 > (a.radius + b.radius) ** 2
            assert (a.kind, a.colour) != (b.kind, b.colour)


def test_every_attribute_occurs():
    scenes = some_scenes(400)
    shapes = [shape for scene in scenes for shape in scene.shapes]
    assert {scene.background for scene in scenes} == set(BACKGROUNDS)
    for attribute, values in (("kind", KINDS), ("colour", INKS), ("size", RADII), ("texture", TEXTURES)):
        assert {getattr(shape, attribute) for shape in shapes} == set(values)


# drawing


def changed_pixels(scene: Scene, size: int = 96) -> torch.Tensor:
    """True where a scene differs from its bare background, (size, size)."""
    bare = draw(replace(scene, shapes=()), size).int()
    return (draw(scene, size).int() - bare).abs().amax(0) > 8


def test_a_shape_is_drawn_where_its_description_says():
    for scene in some_scenes(30):
        for shape in scene.shapes:
            rows, columns = changed_pixels(replace(scene, shapes=(shape,))).nonzero(as_tuple=True)
            x, y = ((places.min() + places.max() + 1) / 2 / 96 for places in (columns.float(), rows.float()))
            assert abs(x - shape.x) < 0.5 * shape.radius
            assert abs(y - shape.y) < 0.5 * shape.radius
            assert (int(3 * x), int(3 * y)) == (shape.column, shape.row)


@pytest.mark.parametrize("kind", KINDS)
def test_a_shape_fills_its_circle_and_stays_inside(kind):
    for angle in (-0.2, 0.0, 0.2):
        rows, columns = changed_pixels(alone(kind=kind, angle=angle)).nonzero(as_tuple=True)
        furthest = ((columns + 0.5) / 96 - 0.5).hypot((rows + 0.5) / 96 - 0.5).max()
        assert RADII["large"] - 2.5 / 96 < furthest < RADII["large"] + 1.5 / 96
        assert len(rows) > 0.25 * math.pi * (96 * RADII["large"]) ** 2


@pytest.mark.parametrize(("attribute", "values"), [("kind", KINDS), ("colour", INKS), ("texture", TEXTURES)])
@pytest.mark.parametrize("size", RADII)
def test_attributes_look_different_at_every_size(attribute, values, size):
    pictures = [draw(alone(size=size, radius=RADII[size], **{attribute: value}), 64).float() for value in values]
    for a, b in combinations(pictures, 2):
        assert (a - b).abs().amax(0).gt(25).sum() >= 12  # pixels


def test_sizes_do_not_overlap():
    areas = [[int(changed_pixels(alone(radius=radius * by)).sum()) for by in (0.94, 1.06)] for radius in RADII.values()]
    flat = [area for pair in areas for area in pair]
    assert flat == sorted(flat)


def test_the_picture_is_the_same_at_any_resolution():
    for scene in some_scenes(5):
        fine = draw(scene, 256).float()
        averaged = torch.nn.functional.avg_pool2d(fine, 4)
        assert (averaged - draw(scene, 64).float()).abs().mean() < 1.5  # grey levels


# captions: a reader of its own, who knows the words but not how they were chosen

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
    captions = tiny().split("dev").captions
    sequences = [words.sequence(words.words(caption)) for caption in captions]
    assert {(tokens[0], tokens[-1]) for tokens in sequences} == {(1, 2)}
    assert {token for tokens in sequences for token in tokens} < set(range(words.vocabulary_size))
    assert words.sequence([]) == [1, 2]


def test_the_config_knows_the_size_of_the_vocabulary():
    config = OmegaConf.load(Path(config_folder()) / "text" / "small.yaml")
    assert config.network.vocabulary_size == GrammarWords().vocabulary_size
