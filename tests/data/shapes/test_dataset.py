"""The embedded data set: what its splits promise."""

import pytest
import torch

from tests.helpers.drawn_scenes import tiny_shapes
from vse_gpo.data.shapes.dataset import ShapesDataset
from vse_gpo.errors import VSEError


@pytest.mark.parametrize("name", ["train", "dev", "test"])
def test_the_same_seed_gives_the_same_split_on_every_call(name):
    first, second = tiny_shapes().split(name), tiny_shapes().split(name)
    assert first.captions == second.captions
    assert all(torch.equal(first.images[row], second.images[row]) for row in range(10))


def test_another_seed_gives_other_scenes():
    one, other = ({scene.description for scene in tiny_shapes(seed=seed).scenes["test"]} for seed in (0, 1))
    assert not one & other


def test_dev_and_test_do_not_depend_on_the_size_of_train():
    one, other = tiny_shapes(), tiny_shapes(train=20)
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


@pytest.mark.parametrize("name", ["train", "size", "captions"])
def test_a_split_of_nothing_is_refused(name):
    numbers = {"train": 1, "dev": 0, "test": 1, "size": 64, "captions": 1}
    with pytest.raises(VSEError, match=f"shapes with {name}=0, expected 1 or more"):
        ShapesDataset(**numbers | {name: 0}, seed=0).split("train")
