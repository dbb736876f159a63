"""The table of example queries, and the picture of it."""

from functools import partial

import numpy as np
import pytest
import torch
from PIL import ImageFont

from tests.helpers.on_disk import CAPTIONS, FOLDER, write_features, write_images, write_texts
from tests.helpers.tiny import TinySource
from vse_gpo.data.regions import RegionFiles
from vse_gpo.data.shapes import ShapesDataset
from vse_gpo.data.split import Split
from vse_gpo.figures.examples import (
    SIDE,
    TRUE,
    Example,
    choose_queries,
    cut,
    draw_examples,
    drawable_images,
    retrieve,
    thumbnail,
)
from vse_gpo.retrieval import image_caption_recalls
from vse_gpo.retrieval.similarity import Products
from vse_gpo.storage.registry import DATA_PARTS
from vse_gpo.storage.settings import build


@pytest.fixture(scope="module")
def split() -> Split:
    return ShapesDataset(train=1, dev=7, test=1, size=32, captions=2, seed=0).split("dev")


def test_queries_depend_on_the_seed_alone(split):
    assert choose_queries(split, count=4, seed=0) == choose_queries(split, count=4, seed=0)
    assert choose_queries(split, count=4, seed=0) != choose_queries(split, count=4, seed=1)
    assert sorted(choose_queries(split, count=99, seed=0)) == list(range(14))


def test_the_first_images_and_the_rank_of_the_true_one_are_those_of_a_plain_loop(split):
    draws = torch.Generator().manual_seed(0)
    images, captions = torch.randn(7, 3, generator=draws), torch.randn(14, 3, generator=draws)
    examples = retrieve(Products(images, captions), split, range(14))
    for row, example in enumerate(examples):
        by_similarity = sorted(range(7), key=lambda image: -float(images[image] @ captions[row]))
        assert example.first == by_similarity[:5]
        assert example.truth == split.caption_to_image[row]
        assert example.rank == 1 + by_similarity.index(example.truth)
        assert example.caption == split.captions[row]
    found = image_caption_recalls(images, captions, split.caption_to_image)
    assert 100 * np.mean([example.rank <= 5 for example in examples]) == pytest.approx(found["t2i_r5"])


def test_ties_count_against_the_query(split):
    [example] = retrieve(Products(torch.ones(7, 3), torch.ones(14, 3)), split, [0])
    assert (example.rank, len(example.first)) == (7, 5)


def test_a_split_of_few_images_shows_them_all():
    split = TinySource(2).split("dev")
    [example] = retrieve(Products(torch.eye(2), torch.eye(2)[split.caption_to_image]), split, [1])
    assert (example.first, example.rank) == ([1, 0], 1)
    assert draw_examples([example], split.images).height > SIDE


def test_the_true_image_is_framed_wherever_it_ranks(split):
    found, missed = Example("found", 3, 2, [0, 3, 1, 2, 4]), Example("missed", 6, 7, [0, 3, 1, 2, 4])
    pixels = np.asarray(draw_examples([found, missed], split.images))
    green = (pixels == [int(TRUE[i : i + 2], 16) for i in (1, 3, 5)]).all(axis=2)
    upper, lower = np.split(green[:-10], 2)
    for half, left in ((upper, 10 + 154), (lower, 5 * 154 + 30)):
        columns = np.flatnonzero(half.sum(axis=0) > SIDE)
        assert (columns.min(), columns.max()) == (left - 4, left + SIDE + 3)


@pytest.mark.parametrize("caption", ["", "a dog", "a dog runs on a beach " * 20])
def test_a_caption_stays_over_its_images(caption):
    font = ImageFont.load_default(size=16)
    shown = cut(caption, font, 300)
    assert font.getlength(shown) <= 300
    assert shown == caption or (len(shown) > 30 and shown[-1] == "…" and caption.startswith(shown[:-1]))


def test_a_picture_is_shown_as_it_is_and_features_by_their_name(split):
    shown = np.asarray(thumbnail(split.images, 2))
    expected = split.images[2].permute(1, 2, 0).float().mean(dim=(0, 1))
    np.testing.assert_allclose(shown.mean(axis=(0, 1)), expected, atol=1.0)
    first, second = (thumbnail(TinySource().split("dev").images, row) for row in (0, 1))
    assert first.size == second.size == (SIDE, SIDE)
    assert first.tobytes() != second.tobytes()


def test_the_images_of_features_are_those_beside_them(tmp_path):
    """Also of the head of a split, and none if there are no files."""
    write_texts(tmp_path)
    write_features(tmp_path, np.zeros((3, 2, 4), dtype=np.float32))
    source = {"_target_": "vse_gpo.data.split.DiskDataset", "root": str(tmp_path), "open_images": RegionFiles}
    dataset = {"image_folder": FOLDER, "source": source}
    make_source = partial(build, parts=DATA_PARTS)
    whole = make_source(source).split("train")
    assert drawable_images(whole, dataset, make_source) is None
    mapping = write_images(tmp_path, [*CAPTIONS])
    for part in (whole, whole.head(4), whole.some(np.array([0, 2]))):
        images = drawable_images(part, dataset, make_source)
        assert [images.name(row) for row in range(len(part.image_ids))] == [mapping[one] for one in part.image_ids]
        assert images[0].dtype == torch.uint8


def test_images_that_are_there_already_are_not_looked_for(split):
    assert drawable_images(split, {}, make_source=pytest.fail) is split.images
