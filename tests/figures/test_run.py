"""Pictures of a run, as a user asks for them."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from PIL import Image

from tests.helpers.small_checkpoint import write_checkpoint
from tests.helpers.small_settings import SETTINGS
from vse_gpo import plot
from vse_gpo.cli.run import config_folder
from vse_gpo.figures.examples import SIDE
from vse_gpo.training.run_folder import write_config

Draw = Callable[..., Path]


@pytest.fixture
def draw(tmp_path, monkeypatch) -> Draw:
    """Runs the command on a place in a run's folder, whose model has these poolings."""
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)

    def run(place: str, *overrides: str, pooling: str = "GPO") -> Path:
        settings: dict[str, Any] = {**SETTINGS}
        for encoder in ("image_encoder", "text_encoder"):
            settings[encoder] = {**SETTINGS[encoder], "pooling": {"_target_": f"vse_gpo.pooling.{pooling}"}}
        write_checkpoint(tmp_path / "run" / "checkpoints" / "best.ckpt", settings)
        out = tmp_path / "out.png"
        monkeypatch.setattr(sys, "argv", ["vse-plot", str(tmp_path / place), str(out), *overrides])
        plot.main()
        return out

    return run


@pytest.mark.parametrize("place", ["run", "run/checkpoints/best.ckpt"])
def test_a_run_and_its_checkpoint_can_be_drawn(draw, place, capsys):
    out = draw(place)
    with Image.open(out) as picture:
        assert (picture.format, picture.width) == ("PNG", 1600)
    assert capsys.readouterr().out == f"written to {out}\n"


def test_a_run_shows_what_its_model_finds(draw, tmp_path):
    sizes = ("train=0", "dev=0", "test=6", "size=32", "captions=2")
    with initialize_config_dir(config_folder(), version_base="1.3"):
        config = compose("train", [f"dataset.source.{size}" for size in sizes])
    dataset = OmegaConf.to_container(config.dataset, resolve=True)
    (tmp_path / "run").mkdir()
    write_config(tmp_path / "run", {"dataset": dataset})
    heights = []
    for queries in (2, 3):
        with Image.open(draw("run", "kind=examples", f"queries={queries}")) as picture:
            assert picture.format == "PNG"
            heights.append(picture.height)
    assert heights[1] - heights[0] > SIDE  # one more line


@pytest.mark.parametrize(
    ("place", "overrides", "pooling", "message"),
    [
        ("run", (), "Mean", "run: no pooling with coefficients, expected GPO for images or captions"),
        ("run/checkpoints/last.ckpt", (), "GPO", "last.ckpt: no such file or directory, expected a checkpoint"),
        ("run", ("kind=losses",), "GPO", "kind=losses: no such figure, expected one of pooling, examples"),
        ("run", ("kind=examples",), "GPO", "run: no config.yaml, expected a run's folder; kind=examples encodes"),
        ("run", ("colour=red",), "GPO", "'colour=red': one word too many, expected run and out"),
    ],
)
def test_what_cannot_be_drawn_gives_one_line(draw, tmp_path, capsys, place, overrides, pooling, message):
    with pytest.raises(SystemExit, match="1"):
        draw(place, *overrides, pooling=pooling)
    told = capsys.readouterr().err
    assert told.startswith("error: ")
    assert message in told
    assert told.count("\n") == 1
    assert not (tmp_path / "out.png").exists()
