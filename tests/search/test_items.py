"""Compact sets of items against plain loops, and what is refused."""

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from vse_gpo.batch import Features
from vse_gpo.errors import VSEError
from vse_gpo.search.items import (
    AUTO,
    DEFAULT,
    NUMBERS,
    Compaction,
    ItemSets,
    check_sets,
    choose_compaction,
    mean_of_owned,
    merge_similar,
    rounded,
)


def unit_sets(images: int = 3, items: int = 20, width: int = 8, seed: int = 0) -> Features:
    values = torch.randn(images, items, width, generator=torch.Generator().manual_seed(seed))
    return Features(normalize(values, dim=2), torch.full((images,), items))


def plain_ward(items: np.ndarray, most: int) -> set[frozenset[int]]:
    """Join the two clusters whose union adds the least to the sum of squares, again and again."""
    clusters = [[row] for row in range(len(items))]
    while len(clusters) > most:
        costs = {}
        for first in range(len(clusters)):
            for second in range(first):
                one, other = (items[clusters[place]].astype(np.float64) for place in (first, second))
                apart = ((one.mean(0) - other.mean(0)) ** 2).sum()
                costs[first, second] = len(one) * len(other) / (len(one) + len(other)) * apart
        first, second = min(costs, key=costs.get)
        clusters[second] += clusters.pop(first)
    return {frozenset(cluster) for cluster in clusters}


@pytest.mark.parametrize("most", [1, 2, 7, 19])
def test_the_most_similar_items_are_merged(most):
    [items] = unit_sets(images=1).values.numpy()
    owners = merge_similar(items, most).tolist()
    clusters = {frozenset(row for row, owner in enumerate(owners) if owner == one) for one in range(most)}
    assert clusters == plain_ward(items, most)
    assert [owners.index(one) for one in range(most)] == sorted(owners.index(one) for one in range(most))


def test_equal_items_leave_as_many_as_asked_for():
    assert sorted(set(merge_similar(np.ones((9, 4), np.float32), 4).tolist())) == [0, 1, 2, 3]


def test_a_merged_item_is_the_unit_mean_of_its_items():
    items = unit_sets(images=2, items=5)
    owners = torch.tensor([[0, 1, 0, 2, 1], [0, 0, 0, 1, 2]])
    merged = mean_of_owned(items.values, owners, 3)
    for image in range(2):
        for one in range(3):
            mean = items.values[image][owners[image] == one].mean(0)
            torch.testing.assert_close(merged[image, one], mean / mean.norm())


def test_all_items_in_float32_are_kept_as_they_are():
    items = unit_sets()
    sets = Compaction(None, "float32")(items)
    assert torch.equal(sets.features().values, items.values)
    assert torch.equal(sets.features().lengths, items.lengths)
    assert sets.owners.tolist() == [list(range(20))] * 3
    assert torch.equal(Compaction(20, "float32")(items).values, items.values)


@pytest.mark.parametrize(("numbers", "error"), [("int8", 1 / 254), ("float16", 2**-11), ("float32", 0)])
def test_numbers_of_few_bytes_are_rounded(numbers, error):
    items = unit_sets().values
    values, scales = rounded(items, NUMBERS[numbers])
    assert values.dtype == NUMBERS[numbers]
    again = values.float() * scales[:, :, None]
    assert ((again - items).abs() <= error * items.abs().amax(2, keepdim=True) * (1 + 1e-6)).all()
    assert numbers != "int8" or (values.abs().amax(2) == 127).all()


def test_an_item_of_zeros_stays_zero():
    values, scales = rounded(torch.zeros(1, 1, 4), torch.int8)
    assert torch.equal(values.float() * scales[:, :, None], torch.zeros(1, 1, 4))


def test_an_item_of_the_whole_image_is_merged_with_no_other():
    items = unit_sets()
    sets = Compaction(4, "float32")(items, whole=1)
    torch.testing.assert_close(sets.values[:, 0], items.values[:, 0])
    assert (sets.owners[:, 0] == 0).all()
    assert (sets.owners[:, 1:] > 0).all()
    assert sets.values.shape == (3, 4, 8)
    assert Compaction(1, "int8")(items, whole=1).values.shape == (3, 1, 8)


def test_an_image_is_stored_alike_in_every_batch():
    items = unit_sets(images=5)
    together = Compaction(6, "int8")(items)
    for row in range(5):
        alone = Compaction(6, "int8")(Features(items.values[row : row + 1], items.lengths[:1]))
        assert all(torch.equal(one[row : row + 1], other) for one, other in zip(together, alone, strict=True))


def test_more_than_256_items_need_larger_numbers():
    sets = Compaction(None, "int8")(unit_sets(images=1, items=300, width=4))
    assert sets.owners.dtype == torch.int16
    assert sets.owners[0, 299] == 299


def test_what_cannot_be_stored_is_refused():
    items = unit_sets()
    with pytest.raises(VSEError, match="different numbers of items"):
        DEFAULT(items._replace(lengths=torch.tensor([20, 19, 20])))
    items.values[1, 3, 2] = torch.nan
    with pytest.raises(VSEError, match="item 23 holds NaN or infinity"):
        DEFAULT(items)


@pytest.mark.parametrize(
    ("most", "numbers", "line"),
    [
        (16, "int4", "item_dtype=int4.*expected int8, float16, float32"),
        (-1, "int8", "items=-1, expected 1 to 32,767"),
        (2**15, "int8", "items=32768, expected 1 to 32,767"),
        (True, "int8", "items=True, expected 1 to 32,767"),
    ],
)
def test_a_compaction_of_another_kind_is_refused(most, numbers, line):
    with pytest.raises(VSEError, match=line):
        Compaction(most, numbers)


@pytest.mark.parametrize(
    ("items", "numbers", "former", "is_new", "expected"),
    [
        (AUTO, AUTO, None, True, DEFAULT),
        (AUTO, AUTO, None, False, None),  # an index without sets stays one
        (AUTO, AUTO, Compaction(4, "float16"), False, Compaction(4, "float16")),
        (8, AUTO, Compaction(4, "float16"), False, Compaction(8, "float16")),
        (AUTO, "int8", Compaction(None, "float16"), False, Compaction(None, "int8")),
        (AUTO, "float16", None, False, Compaction(16, "float16")),
        (None, AUTO, None, True, Compaction(None, "int8")),
        (0, AUTO, Compaction(4, "float16"), False, None),
    ],
)
def test_an_index_keeps_its_items_unless_told_otherwise(items, numbers, former, is_new, expected):
    asked = {"former": former, "is_new": is_new}
    assert choose_compaction(items, numbers, **asked, has_interaction=True) == expected


def test_a_model_without_interaction_has_no_items():
    asked = {"former": None, "is_new": True, "has_interaction": False}
    assert choose_compaction(AUTO, AUTO, **asked) is None
    assert choose_compaction(0, AUTO, **asked) is None
    for items, numbers in ((16, AUTO), (None, AUTO), (AUTO, "int8")):
        with pytest.raises(VSEError, match=f"items={items} item_dtype={numbers}: the model has no interaction"):
            choose_compaction(items, numbers, **asked)


@pytest.mark.parametrize(("field", "value"), [("scales", torch.nan), ("owners", 4)])
def test_values_that_no_model_gives_are_refused(field, value):
    sets = Compaction(4, "int8")(unit_sets())
    check_sets(sets, "make it again")
    part = getattr(sets, field)
    part[1, 2] = value
    with pytest.raises(VSEError, match=r"a damaged index, its sets of items .*; make it again"):
        check_sets(ItemSets(*sets), "make it again")
