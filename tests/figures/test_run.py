"""Pictures of trained poolings, from what holds a model."""

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from scripts.plot_pooling import main
from tests.storage.test_settings import SETTINGS
from vse_gpo.storage.settings import build


@pytest.fixture
def plot(tmp_path, monkeypatch):
    """Runs the command on a run's folder, or on its checkpoint, with poolings of its own."""

    def run(place: str, pooling: str) -> Path:
        settings: dict[str, Any] = {**SETTINGS}
        for encoder in ("image_encoder", "text_encoder"):
            settings[encoder] = {**SETTINGS[encoder], "pooling": {"_target_": f"vse_gpo.pooling.{pooling}"}}
        weights = {f"model.{name}": value for name, value in build(settings).state_dict().items()}
        (tmp_path / "run" / "checkpoints").mkdir(parents=True)
        torch.save(
            {"settings": {"model": settings}, "state_dict": weights}, tmp_path / "run" / "checkpoints" / "best.ckpt"
        )
        monkeypatch.setattr(sys, "argv", ["plot_pooling.py", str(tmp_path / place), str(tmp_path / "out.png")])
        main()
        return tmp_path / "out.png"

    return run


@pytest.mark.parametrize("place", ["run", "run/checkpoints/best.ckpt"])
def test_a_run_and_its_checkpoint_can_be_drawn(plot, place):
    with Image.open(plot(place, "GPO")) as picture:
        assert (picture.format, picture.width) == ("PNG", 1600)


@pytest.mark.parametrize(
    ("place", "pooling", "message"),
    [
        ("run", "Mean", "error: .*best.ckpt: no pooling with coefficients, expected GPO"),
        ("run/checkpoints/last.ckpt", "GPO", "error: .*last.ckpt: no such file"),
    ],
)
def test_what_cannot_be_drawn_gives_one_line(plot, tmp_path, place, pooling, message):
    with pytest.raises(SystemExit, match=message):
        plot(place, pooling)
    assert not (tmp_path / "out.png").exists()
