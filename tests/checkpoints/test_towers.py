"""What each tower takes and gives; ``test_export`` writes and runs them."""

import pytest
import torch

from tests.helpers.tiny import tiny_module
from vse_gpo.checkpoints.towers import EMBEDDINGS, ITEMS, image_tower, text_tower
from vse_gpo.errors import VSEError
from vse_gpo.interaction import MaxSim


@pytest.mark.parametrize("make", [image_tower, text_tower])
def test_a_tower_gives_what_its_encoder_gives(make):
    draws = torch.Generator().manual_seed(0)
    plain = make(tiny_module().model.eval(), draws)
    compared = make(tiny_module(interaction=MaxSim()).model.eval(), draws)
    assert (plain.outputs, compared.outputs) == (EMBEDDINGS, ITEMS)
    inputs = plain.sample(3, 5)
    assert [len(one) for one in inputs] == [3] * len(plain.inputs)
    with torch.no_grad():
        embeddings, items, lengths = compared.module(*inputs)
        torch.testing.assert_close(plain.module(*inputs), embeddings)
    assert items.shape == (3, 5, 8)
    assert torch.equal(lengths, inputs[1])


def test_images_of_another_kind_are_refused():
    model = tiny_module().model
    model.prepare_images = model.prepare_captions
    with pytest.raises(VSEError, match="PrepareCaptions cannot be exported, expected pixels or regions"):
        image_tower(model, torch.Generator())
