"""The pictures of the demo's page: each query is true of some, and none was trained on."""

import numpy as np
from PIL import Image

from scripts.demo_gallery import QUERIES, SCENES, Question, gallery, is_true, sample_questions, write_gallery
from vse_gpo.data.shapes import ShapesDataset


def test_every_query_has_pictures_which_no_training_saw(tmp_path):
    dataset = ShapesDataset(train=20, dev=5, test=10, size=32, captions=2, seed=0)
    questions = sample_questions(np.random.default_rng(0))
    scenes = gallery(dataset, questions, np.random.default_rng(1))
    assert str(questions[0]) == "a red circle left of a blue square"
    assert len(set(map(str, questions))) == QUERIES
    assert len(scenes) == 10 + QUERIES * SCENES
    for question in questions:
        assert sum(is_true(question, scene) for scene in scenes.values()) >= SCENES
    trained = {scene.description for name in ("train", "dev") for scene in dataset.scenes[name]}
    assert not trained & {scene.description for scene in scenes.values()}
    write_gallery(tmp_path, dict(list(scenes.items())[:3]), dataset)
    with Image.open(tmp_path / "pictures" / "test_000.png") as picture:
        assert picture.size == (64, 64)
    assert len((tmp_path / "captions.txt").read_text(encoding="utf-8").splitlines()) == 6


def test_a_relation_is_that_of_the_cells():
    dataset = ShapesDataset(train=1, dev=1, test=200, size=32, captions=1, seed=0)
    for scene in dataset.scenes["test"]:
        for first in scene.shapes:
            for second in scene.shapes:
                names = (first.colour, first.kind), (second.colour, second.kind)
                for relation, true in (
                    ("left of", first.column < second.column),
                    ("right of", first.column > second.column),
                    ("above", first.row < second.row),
                    ("below", first.row > second.row),
                ):
                    assert is_true(Question(names[0], relation, names[1]), scene) is true
