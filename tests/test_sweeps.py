"""Every shipped sweep starts the runs that it says. That a pooling composes and builds is tested with the poolings."""

import itertools
import sys
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import RunMode
from omegaconf import DictConfig

from vse_gpo.commands import config_folder, run_command

IMAGE, TEXT = "pooling/kind@pooling.image", "pooling/kind@pooling.text"
IMAGE_POOLINGS = ["mean", "max", "kmax", "gem", "fspool", "self_attention", "seq2seq", "gcn_mean", "gcn_seq2seq", "gpo"]
PARTS = ["transformer", "mlp", "learned_index", "interpolated", "per_channel", "conditioned"]
SWEEPS = {
    "aggregators": {IMAGE: ["mean", "gpo"], TEXT: ["first", "gpo"]},
    "image_aggregators": {IMAGE: IMAGE_POOLINGS},
    "size_augmentation": {
        "backbone.size_augmentation.probability": ["0.0", "0.2"],
        "text.prepare.noise.probability": ["0.0", "0.2"],
    },
    "gpo_generators": {"pooling": ["gpo", *(f"gpo_{part}" for part in PARTS)]},
}


def runs_of(sweep: str) -> list[list[str]]:
    """The overrides of each run, by Hydra's own sweeper."""
    with initialize_config_dir(config_folder(), version_base="1.3"):
        overrides = [f"sweep={sweep}", "experiment=coco_butd_region", "dataset.root=x"]
        hydra_config = compose("train", overrides, return_hydra_config=True).hydra
    assert hydra_config.mode == RunMode.MULTIRUN  # without -m as well
    params = OverridesParser.create().parse_overrides([f"{k}={v}" for k, v in hydra_config.sweeper.params.items()])
    [runs] = BasicSweeper.split_arguments(params, max_batch_size=None)
    return runs


def test_every_sweep_is_tested():
    assert set(SWEEPS) == {path.stem for path in Path(config_folder()).glob("sweep/*.yaml")}


@pytest.mark.parametrize("sweep", SWEEPS)
def test_a_sweep_combines_its_choices(sweep):
    names, choices = SWEEPS[sweep].keys(), SWEEPS[sweep].values()
    expected = [[f"{n}={v}" for n, v in zip(names, values, strict=True)] for values in itertools.product(*choices)]
    assert runs_of(sweep) == expected


@pytest.mark.parametrize("sweep", sorted(SWEEPS.keys() - {"size_augmentation"}))
def test_the_poolings_of_a_sweep_exist(sweep):
    for name, values in SWEEPS[sweep].items():
        group = Path(config_folder(), name.partition("@")[0])
        assert all((group / f"{value}.yaml").is_file() for value in values)


def test_each_run_has_its_choices_and_a_folder_of_its_own(monkeypatch, tmp_path):
    found, folders = [], set()

    def job(config: DictConfig) -> None:
        found.append((config.backbone.size_augmentation.probability, config.text.prepare.noise.probability))
        folders.add(HydraConfig.get().runtime.output_dir)

    overrides = ["sweep=size_augmentation", "experiment=coco_butd_region", "dataset.root=x"]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["vse-train", "-m", *overrides])
    run_command(job, "train")
    assert found == [(0.0, 0.0), (0.0, 0.2), (0.2, 0.0), (0.2, 0.2)]
    assert len(folders) == 4


@pytest.mark.parametrize("sweep", SWEEPS)
def test_a_header_gives_the_command(sweep):
    text = (Path(config_folder()) / "sweep" / f"{sweep}.yaml").read_text(encoding="utf-8")
    assert text.startswith("# @package _global_\n")
    assert f"# python -m vse_gpo.train -m sweep={sweep} experiment=" in text
