"""The trunk that is trained from scratch."""

import pytest
import torch
from torch import nn

from vse_gpo.backbones.small import Coordinates, coarse_grid, small_grid


@pytest.mark.parametrize(("build", "cells"), [(small_grid, 16), (coarse_grid, 4)])
def test_a_trunk_from_scratch_trains_its_statistics(build, cells):
    grid = build(width=8).train()
    features = grid(torch.randint(256, (2, 3, 32, 32), dtype=torch.uint8))
    assert features.values.shape == (2, cells, 8)
    assert features.lengths.tolist() == [cells, cells]
    assert all(module.training for module in grid.modules() if isinstance(module, nn.BatchNorm2d))


def test_coordinates_tell_every_cell_where_it_lies():
    grid = torch.full((2, 1, 2, 3), 7.0)
    placed = Coordinates()(grid)
    assert torch.equal(placed[:, :1], grid)
    assert placed[1, 1].tolist() == [[-1, 0, 1], [-1, 0, 1]]
    assert placed[1, 2].tolist() == [[-1, -1, -1], [1, 1, 1]]
