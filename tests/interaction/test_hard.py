"""Hard assignment against the numbers of CHAN's released functions."""

from pathlib import Path

import numpy as np
import pytest
import torch

from vse_gpo.batch import Features
from vse_gpo.interaction import HardAssignment, MaxSim

GOLDEN = np.load(Path(__file__).parents[1] / "golden/interaction.npz", allow_pickle=False)


@pytest.mark.parametrize(
    ("name", "interaction"),
    [
        ("chan/mean", HardAssignment()),
        ("chan/logsumexp", HardAssignment("logsumexp")),
        ("chan_i2t/mean", MaxSim("i2t")),
    ],
)
def test_it_gives_the_released_similarities(name, interaction):
    images = Features(torch.from_numpy(GOLDEN["images"]), torch.from_numpy(GOLDEN["image_lengths"]))
    captions = Features(torch.from_numpy(GOLDEN["captions"]), torch.from_numpy(GOLDEN["caption_lengths"]))
    found = interaction(images, captions)
    torch.testing.assert_close(found, torch.from_numpy(GOLDEN[name]), atol=1e-5, rtol=1e-5)
