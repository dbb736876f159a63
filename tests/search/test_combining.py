"""Sums of queries against plain arithmetic."""

import pytest
import torch

from tests.helpers.photo_folder import unit
from vse_gpo.errors import VSEError
from vse_gpo.search.combining import combine_parts


def test_the_sum_is_that_of_plain_loops():
    embeddings, weights = unit(3), [1.0, 0.5, -0.25]
    total = [
        sum(weight * float(row[place]) for weight, row in zip(weights, embeddings, strict=True)) for place in range(16)
    ]
    length = sum(value**2 for value in total) ** 0.5
    found = combine_parts(embeddings, weights)
    assert found.shape == (1, 16)
    assert found[0].tolist() == pytest.approx([value / length for value in total], abs=1e-6)
    assert torch.equal(combine_parts(embeddings[:1], [2.0]), combine_parts(embeddings[:1], [1.0]))


@pytest.mark.parametrize("weights", [[1.0, -1.0], [0.0, 0.0], [3.0, -3.0]])
def test_parts_that_cancel_out_are_refused(weights):
    with pytest.raises(VSEError, match="the parts of the query cancel out; change a text, an image or a weight"):
        combine_parts(unit(1).repeat(2, 1), weights)
