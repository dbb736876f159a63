"""The image backbones that are trained from scratch, on small images."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vse_gpo.backbones.grid import Grid, PixelNormalization


def small_grid(width: int = 128) -> Grid:
    """A small trunk to train from scratch on small images: one cell for every 8×8 pixels.

    Args:
        width: width of the features.
    """
    half = 3 * width // 8
    trunk = nn.Sequential(
        _convolution(3, half, kernel=6, stride=4),
        _Residual(_convolution(half, half)),
        Coordinates(),
        _convolution(half + 2, width, stride=2),
        _Residual(_convolution(width, width)),
        _Residual(_convolution(width, width)),
    )
    return Grid(trunk, PixelNormalization(), frozen_statistics=False)


def coarse_grid(width: int = 256) -> Grid:
    """A smaller trunk to train from scratch on small images: one cell for every 16×16 pixels, as large as a thing.

    Sets of few items are cheap to compare; the convolutions overlap, and all but the first know where they are.

    Args:
        width: width of the features.
    """
    trunk = nn.Sequential(
        _convolution(3, width // 4, kernel=8, stride=4),
        Coordinates(),
        _convolution(width // 4 + 2, width // 2, kernel=4, stride=2),
        Coordinates(),
        _convolution(width // 2 + 2, width, kernel=4, stride=2),
    )
    return Grid(trunk, PixelNormalization(), frozen_statistics=False)


class Coordinates(nn.Module):
    """Add two channels with the position of every cell, −1 to 1 (Liu et al. 2018, "CoordConv").

    A pooled set of cells has no order; without positions, an image and its mirror image would be nearly the same.
    """

    def forward(
        self, grid: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch channels_and_2 height width"]:
        batch, _, height, width = grid.shape
        down, across = (torch.linspace(-1, 1, steps, device=grid.device).to(grid.dtype) for steps in (height, width))
        places = torch.stack([across.expand(height, -1), down[:, None].expand(-1, width)])
        return torch.cat([grid, places.expand(batch, -1, -1, -1)], dim=1)


def _convolution(inputs: int, outputs: int, *, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    """Convolution, BatchNorm and ReLU; the map shrinks exactly by the stride."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, padding=(kernel - stride + 1) // 2, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


class _Residual(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs + self.inner(inputs)
