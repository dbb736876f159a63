"""Sets compared pair by pair are those compared all at once; ``test_encoding`` and ``test_ddp`` gather them."""

import pytest
import torch

from vse_gpo.batch import Features, pad_sets
from vse_gpo.evaluation.item_sets import ComparedSets
from vse_gpo.interaction import MaxSim, ScanTextToImage


def sets(count: int, seed: int) -> list[torch.Tensor]:
    draws = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, 6, (count,), generator=draws).tolist()
    return [torch.nn.functional.normalize(torch.randn(length, 4, generator=draws), dim=1) for length in lengths]


@pytest.mark.parametrize("interaction", [MaxSim(), ScanTextToImage()])
def test_a_query_and_some_items_have_the_similarity_that_all_pairs_have(interaction):
    images, captions = sets(5, 0), sets(7, 1)
    expected = interaction(Features(*pad_sets(images)), Features(*pad_sets(captions)))
    found = ComparedSets(interaction, images, captions)
    items = torch.tensor([3, 0, 4])
    for query in range(7):
        torch.testing.assert_close(found.searched("t2i")(query, items), expected[items, query])
    for query in range(5):
        torch.testing.assert_close(found.searched("i2t")(query, items), expected[query, items])
    part = found.part(torch.tensor([4, 1]), torch.tensor([2, 6, 0]))
    torch.testing.assert_close(part.searched("i2t")(1, torch.arange(3)), expected[1, [2, 6, 0]])
    torch.testing.assert_close(part.searched("t2i")(0, torch.arange(2)), expected[[4, 1], 2])
