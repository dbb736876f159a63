"""Every shipped sweep starts the runs that it says. That a pooling composes and builds is tested with the poolings."""

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from tests.helpers.commands import run_on_config
from tests.helpers.tiny_root import tiny_root
from vse_gpo import train
from vse_gpo.cli.run import config_folder
from vse_gpo.errors import VSEError

ROOT = Path(__file__).parents[2]

IMAGE, TEXT = "pooling@image_pooling", "pooling@text_pooling"
IMAGE_POOLINGS = ["mean", "max", "kmax", "gem", "fspool", "self_attention", "seq2seq", "gcn_mean", "gcn_seq2seq", "gpo"]
PARTS = ["transformer", "mlp", "learned_index", "interpolated", "per_channel", "conditioned"]
SWEEPS = {
    "aggregators": {IMAGE: ["mean", "gpo"], TEXT: ["first", "gpo"]},
    "image_aggregators": {IMAGE: IMAGE_POOLINGS},
    "text_aggregators": {TEXT: ["first", "gem", "fspool", "gpo"]},
    "image_kmax": {IMAGE: ["kmax"], "image_pooling.k": ["1", "2", "5", "10", "20", "null"]},
    "size_augmentation": {
        "backbone.size_augmentation.probability": ["0.0", "0.2"],
        "text.prepare.noise.probability": ["0.0", "0.2"],
    },
    "lr_margin_pooling": {
        "optimizer.lr": ["0.0002", "0.0005", "0.001"],
        "loss.margin": ["0.1", "0.2", "0.3"],
        "pooling": ["gpo", "mean", "max"],
    },
    "kmax": {
        IMAGE: ["kmax"],
        TEXT: ["kmax"],
        "image_pooling.k": ["1", "2", "5", "10", "20", "null"],
        "text_pooling.k": ["1", "2", "5", "10", "20", "null"],
    },
    "poolings": {
        "pooling": ["gpo", "gpo_from_max", "mean", "max", "kmax", "gem", "fspool"],
        "seed": ["0", "1"],
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
    assert {*SWEEPS, "study"} == {path.stem for path in Path(config_folder()).glob("sweep/*.yaml")}


@pytest.mark.parametrize("sweep", SWEEPS)
def test_a_sweep_combines_its_choices(sweep):
    names, choices = SWEEPS[sweep].keys(), SWEEPS[sweep].values()
    expected = [[f"{n}={v}" for n, v in zip(names, values, strict=True)] for values in itertools.product(*choices)]
    assert runs_of(sweep) == expected


@pytest.mark.parametrize("sweep", sorted(SWEEPS.keys() - {"size_augmentation"}))
def test_the_poolings_of_a_sweep_exist(sweep):
    for name, values in SWEEPS[sweep].items():
        if not name.startswith("pooling"):
            continue
        group = Path(config_folder(), name.partition("@")[0])
        assert all((group / f"{value}.yaml").is_file() for value in values)


def test_each_run_has_its_choices_and_a_folder_of_its_own(monkeypatch, tmp_path):
    found, folders = [], []

    def job(config: DictConfig) -> None:
        found.append((config.backbone.size_augmentation.probability, config.text.prepare.noise.probability))
        folders.append(Path(HydraConfig.get().runtime.output_dir).name)

    overrides = ["sweep=size_augmentation", "experiment=coco_butd_region", "dataset.root=x"]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["vse-train", "-m", *overrides])
    run_on_config(job)
    assert found == [(0.0, 0.0), (0.0, 0.2), (0.2, 0.0), (0.2, 0.2)]
    assert folders[1] == "backbone.size_augmentation.probability-0.0_text.prepare.noise.probability-0.2"
    assert len(set(folders)) == 4


def test_a_value_that_is_added_leaves_the_folders_of_the_others(monkeypatch, tmp_path):
    folders = []
    monkeypatch.chdir(tmp_path)
    for typed in (["seed=5,7"], ["seed=4,5"], ["seed=5,7", "hydra.sweep.subdir=${hydra.job.num}"]):
        monkeypatch.setattr(sys, "argv", ["vse-train", "-m", *typed])
        run_on_config(lambda config: folders.append(Path(HydraConfig.get().runtime.output_dir).name))
    assert folders == ["seed-5", "seed-7", "seed-4", "seed-5", "0", "1"]


def test_a_misspelt_value_ends_a_sweep_before_its_first_run(monkeypatch, tmp_path, capsys):
    jobs = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["vse-train", "-m", "pooling=gpo,maxx"])
    with pytest.raises(SystemExit):
        run_on_config(lambda config: jobs.append(1))
    assert "pooling=maxx: no such option" in capsys.readouterr().err
    assert jobs == []


def test_an_interval_is_for_a_study(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["vse-train", "-m", "loss.margin=interval(0.1,0.4)"])
    with pytest.raises(SystemExit):
        run_on_config(lambda config: None)
    assert "hydra/sweeper=study draws from one" in capsys.readouterr().err


@pytest.mark.parametrize("sweep", [*SWEEPS, "study"])
def test_a_header_gives_the_command(sweep):
    text = (Path(config_folder()) / "sweep" / f"{sweep}.yaml").read_text(encoding="utf-8")
    assert text.startswith("# @package _global_\n")
    assert f"# python -m vse_gpo.train -m sweep={sweep} experiment=" in text


def test_the_sweep_for_wandb_names_real_settings(monkeypatch, tmp_path):
    sweep = OmegaConf.to_container(OmegaConf.load(ROOT / "docs" / "wandb_sweep.yaml"))
    parameters = sweep["parameters"]
    values = {name: settings.get("values", [settings.get("max")])[-1] for name, settings in parameters.items()}
    typed = [argument for argument in sweep["command"] if "=" in argument]
    assert sweep["command"][:5] == ["${env}", "${interpreter}", "-m", "vse_gpo.train", "${args_no_hyphens}"]
    found = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["vse-train", *(f"{n}={v}" for n, v in values.items()), *typed])
    run_on_config(lambda config: found.append((config.optimizer.lr, config.loss.margin, config.logger.wandb.project)))
    assert found == [(2e-3, 0.3, sweep["project"])]
    assert sweep["metric"] == {"name": "val/rsum", "goal": "maximize"}


# launchers


@pytest.mark.parametrize(
    ("launcher", "settings", "plugin"),
    [
        ("joblib", ["hydra.launcher.n_jobs=2"], "hydra_plugins.hydra_joblib_launcher"),
        ("submitit_local", ["hydra.launcher.timeout_min=2"], "hydra_plugins.hydra_submitit_launcher"),
        ("ray", ["+hydra.launcher.ray.init.num_cpus=2"], "hydra_plugins.hydra_ray_launcher"),
    ],
)
def test_a_launcher_runs_every_job_in_its_folder(tmp_path, launcher, settings, plugin):
    pytest.importorskip(plugin, reason=f"{plugin} is not installed")
    overrides = [f"hydra/launcher={launcher}", *settings, "hydra.sweep.dir=sweep", "trainer.max_epochs=2", "seed=3,4"]
    started = subprocess.Popen(
        [sys.executable, "-m", "tests.helpers.launched", "-m", *overrides],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    output, _ = started.communicate()
    assert started.returncode == 0, output.decode()
    found = [(tmp_path / "sweep" / f"seed-{seed}" / "seed").read_text().split() for seed in (3, 4)]
    assert [(seed, epochs) for seed, epochs, _ in found] == [("3", "2"), ("4", "2")]
    assert all(process != str(started.pid) for _, _, process in found)


# studies


def study_of(folder: Path) -> Any:
    optuna = pytest.importorskip("optuna", minversion="4.9", reason="optuna is not installed")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(folder / "study.log")))
    return optuna.load_study(study_name="study", storage=storage)


def type_study(monkeypatch, folder: Path, *overrides: str) -> None:
    pytest.importorskip("optuna", minversion="4.9", reason="optuna is not installed")
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", ["vse-train", "-m", "sweep=study", "hydra.sweep.dir=sweep", *overrides])


def test_a_study_goes_on_with_the_trial_that_was_interrupted(monkeypatch, tmp_path, capfd):
    type_study(monkeypatch, tmp_path, "loss=triplet", "hydra.sweeper.trials=5")
    jobs = []

    def job(config: DictConfig) -> float:
        number = HydraConfig.get().job.num
        jobs.append((number, config.optimizer.lr, config.loss.margin, HydraConfig.get().runtime.choices.pooling))
        if len(jobs) == 3:
            raise KeyboardInterrupt
        return 100 * config.loss.margin

    with pytest.raises(KeyboardInterrupt):
        run_on_config(job)
    run_on_config(job)
    assert [number for number, *_ in jobs] == [0, 1, 2, 2, 3, 4]
    assert jobs[3] == jobs[2]
    assert len(set(jobs)) == 5
    assert all(1e-4 <= lr <= 2e-3 and 0.1 <= margin <= 0.4 for _, lr, margin, _ in jobs)
    study = study_of(tmp_path / "sweep")
    assert [trial.value for trial in study.trials] == pytest.approx(
        [100 * margin for _, _, margin, _ in jobs[:2] + jobs[3:]]
    )
    assert f"best of 5 trials: {study.best_value:.1f}" in capfd.readouterr().out
    run_on_config(job)
    assert len(jobs) == 6


def test_a_job_that_fails_is_a_failed_trial(monkeypatch, tmp_path, capfd):
    type_study(monkeypatch, tmp_path, "loss=triplet", "hydra.sweeper.trials=4", "hydra.sweeper.at_once=2", "seed=5")

    def job(config: DictConfig) -> float:
        if HydraConfig.get().job.num == 1:
            raise VSEError("out of luck")
        return float(config.seed)

    run_on_config(job)
    states = [trial.state.name for trial in study_of(tmp_path / "sweep").trials]
    assert states == ["COMPLETE", "FAIL", "COMPLETE", "COMPLETE"]
    monkeypatch.setattr(sys, "argv", [*sys.argv, "hydra.sweep.dir=other", "hydra.sweeper.at_once=1"])
    with pytest.raises(SystemExit):
        run_on_config(always_fails)
    assert capfd.readouterr().err.endswith("\nerror: always\n")


def always_fails(config: DictConfig) -> float:
    raise VSEError("always")


def test_a_study_of_real_runs_takes_their_best_rsum_and_ends_hopeless_ones(monkeypatch, tmp_path, capfd):
    overrides = ["trainer.max_epochs=3", "loss=triplet", "hydra.sweeper.trials=2", "pooling=mean"]
    pruner = {"_target_": "optuna.pruners.ThresholdPruner", "lower": 601, "n_warmup_steps": 1}
    pruning = ["~callbacks.pruning.pruner", *(f"++callbacks.pruning.pruner.{name}={pruner[name]}" for name in pruner)]
    type_study(monkeypatch, tmp_path, *tiny_root(tmp_path / "data"), *overrides, *pruning)
    train.main()
    study = study_of(tmp_path / "sweep")
    assert [trial.state.name for trial in study.trials] == ["PRUNED", "PRUNED"]
    assert [sorted(trial.intermediate_values) for trial in study.trials] == [[0, 1], [0, 1]]
    for trial in study.trials:
        metrics = json.loads((tmp_path / "sweep" / f"{trial.number}_f8k" / "metrics.json").read_text())
        assert metrics["val/best_rsum"] == pytest.approx(max(trial.intermediate_values.values()))
        assert metrics["epochs"] == 2
    assert "no result from 2 trials" in capfd.readouterr().out
