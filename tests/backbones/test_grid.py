"""Grids: pixels as the trunk was trained, cells as the set."""

import torch
from torch import nn

from vse_gpo.backbones.grid import Grid, PixelNormalization, caffe_pixels


def test_pixels_are_normalised_as_each_trunk_was_trained():
    pixels = torch.tensor([10, 20, 30], dtype=torch.uint8).view(1, 3, 1, 1)
    detector = caffe_pixels()(pixels).flatten()
    torch.testing.assert_close(detector, torch.tensor([30 - 102.9801, 20 - 115.9465, 10 - 122.7717]))
    imagenet = PixelNormalization()(pixels).flatten()
    expected = [(10 / 255 - 0.485) / 0.229, (20 / 255 - 0.456) / 0.224, (30 / 255 - 0.406) / 0.225]
    torch.testing.assert_close(imagenet, torch.tensor(expected))


def trunk_with_norm() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.BatchNorm2d(4))


def test_a_trunks_batchnorm_stays_in_eval_but_its_scale_trains():
    grid = Grid(trunk_with_norm(), PixelNormalization())
    norm = grid.trunk[1]
    for built in (grid, grid.eval().train()):
        assert built.training
        assert not norm.training
    before = norm.running_mean.clone()
    grid(torch.randint(256, (2, 3, 9, 9), dtype=torch.uint8)).values.sum().backward()
    assert torch.equal(norm.running_mean, before)
    assert norm.weight.grad is not None


def test_cells_are_averaged_to_the_size_asked_for():
    grid = Grid(nn.Identity(), PixelNormalization((0, 0, 0), (1, 1, 1), scale=1.0), cells=2)
    pixels = torch.arange(16, dtype=torch.uint8).view(1, 1, 4, 4).expand(1, 3, 4, 4)
    assert grid(pixels).values[0, :, 0].tolist() == [2.5, 4.5, 10.5, 12.5]
