"""SCAN against the numbers of its released functions, and against its formula without the Gram matrix."""

from pathlib import Path

import numpy as np
import pytest
import torch

from vse_gpo.batch import Features
from vse_gpo.interaction import ScanImageToText, ScanTextToImage

GOLDEN = np.load(Path(__file__).parents[1] / "golden/interaction.npz", allow_pickle=False)
SIMILARITIES = [
    name for name in GOLDEN if name.count("/") == 2 and "grad" not in name
]  # DIRECTION/AGGREGATE/NORM of the program
DIRECTIONS = {"t2i": ScanTextToImage, "i2t": ScanImageToText}
AGGREGATES = {"LogSumExp": "lse", "Mean": "mean", "Max": "max", "Sum": "sum"}
NORMS = {"clipped_l2norm": "clipped_l2", "l2norm": "l2", "clipped": "clipped", "no_norm": "none", "softmax": "softmax"}


def released_sets() -> tuple[Features, Features]:
    images = torch.from_numpy(GOLDEN["images"])
    captions = torch.from_numpy(GOLDEN["captions"])
    return (
        Features(images.requires_grad_(), torch.full((len(images),), images.shape[1])),
        Features(captions.requires_grad_(), torch.from_numpy(GOLDEN["caption_lengths"])),
    )


@pytest.mark.parametrize("name", SIMILARITIES)
def test_it_gives_the_released_similarities(name):
    direction, aggregate, norm = name.split("/")
    interaction = DIRECTIONS[direction](aggregate=AGGREGATES[aggregate], norm=NORMS[norm])
    found = interaction(*released_sets()).detach()
    torch.testing.assert_close(found, torch.from_numpy(GOLDEN[name]), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_it_gives_the_released_gradients(direction):
    # in float64: the released ones are rounded, and another order of sums would round ours as much again
    images, captions = (
        Features(part.values.detach().double().requires_grad_(), part.lengths) for part in released_sets()
    )
    similarity = DIRECTIONS[direction](aggregate="mean")(images, captions)
    similarity.backward(torch.from_numpy(GOLDEN["grad_similarity"]).double())
    for part, name in ((images, "images"), (captions, "captions")):
        expected = torch.from_numpy(GOLDEN[f"{direction}/Mean/grad_{name}"])
        torch.testing.assert_close(part.values.grad.float(), expected, atol=1e-5, rtol=1e-4)
