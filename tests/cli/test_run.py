"""What a user meets first: help, the config, and errors in one line."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hydra.utils import instantiate
from omegaconf import OmegaConf

from tests.helpers.commands import run_on_config
from vse_gpo import train
from vse_gpo.cli.run import config_folder
from vse_gpo.errors import VSEError

CONFIGS = Path(config_folder())
GROUPS = [
    (root.stem, group)
    for root in sorted(CONFIGS.glob("*.yaml"))
    for entry in OmegaConf.load(root).get("defaults", [])
    if not isinstance(entry, str)
    for group in entry
    if not group.startswith("override ")
]
GROUPS.append(("train", "optimizer/build"))
DEBUGS = sorted(path.stem for path in CONFIGS.glob("debug/*.yaml"))
ROOT = Path(__file__).parents[2]


def run(*command: str | Path, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=cwd, env=os.environ | environment, capture_output=True, text=True, check=False)


# errors


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["experiment=f8k_regin"], "experiment=f8k_regin: no such option (did you mean f8k_region?); there are *"),
        (["poling=gpo"], "poling: no such setting (did you mean pooling?)"),
        (["backbone=butd_gird"], "backbone=butd_gird: no such option (did you mean butd_grid?); there are *"),
        (["optimzer.lr=1"], "optimzer.lr: no such setting (did you mean optimizer.lr?)"),
        (["experiment=f8k_region", "text.widht=3"], "text.widht: no such setting (did you mean text.width?)"),
        (["max_epochs=3"], "max_epochs: no such setting (did you mean trainer.max_epochs?)"),
        (["trainer.micro_batch=16"], "trainer.micro_batch: no such setting (did you mean micro_batch?)"),
        (["xyzzy=1"], "xyzzy: no such setting"),
        (["seed"], "seed: cannot be read as name=value; type seed=…"),
        (["experiment=f8k_region"], "dataset.root must be set; add dataset.root=…"),
        (["dataset=f8k", "dataset.root=x", "+trainr.precision=16"], "trainr: no such setting (did you mean trainer?)"),
        (["experiment=f8k_region", "dataset.root=x", "seed=${sed}"], "Interpolation key 'sed' not found*"),
        (["seed=${sed}"], "Interpolation key 'sed' not found*"),
        (["experiment=f8k_region", "dataset.root=no/such", "text=bigru", "text.vocabulary=x"],
         "text.vocabulary=x: no such file"),
        (["callbacks=ema"],
         "callbacks without best, whose checkpoint the test takes; add default: callbacks=[default,…]"),
        (["experiment=f8k_region", "dataset.root=no/such", "text=bigru"], "text.vocabulary must be set; add*"),
    ],
)  # fmt: skip
def test_a_wrong_config_gets_one_line_and_leaves_nothing_behind(error_of, arguments, line):
    found = error_of(train.main, *arguments)
    assert found.startswith(line.removesuffix("*"))
    assert line.endswith("*") or found == line


def test_a_callback_or_logger_that_is_null_is_left_out(command_line, monkeypatch, tmp_path):
    given: list[dict] = []
    monkeypatch.setattr("vse_gpo.training.run.train", lambda **arguments: given.append(arguments))
    for left_out in ([], ["callbacks.examples=null", "logger.csv=null"]):
        command_line(*left_out, f"hydra.run.dir={tmp_path}")
        train.main()
    (callbacks, loggers), (fewer_callbacks, no_logger) = ((a["make_callbacks"], a["make_loggers"]) for a in given)
    assert (len(callbacks) - len(fewer_callbacks), len(loggers), len(no_logger)) == (1, 1, 0)


@pytest.mark.parametrize(("root", "group"), GROUPS)
def test_an_unknown_name_in_any_group_is_told_with_the_options(error_of, root, group):
    options = sorted(path.stem for path in CONFIGS.joinpath(group.partition("@")[0]).glob("*.yaml"))
    expected = f"{group}=xyzzy: no such option; there are {', '.join(options)}"
    assert error_of(lambda: run_on_config(print, root), f"{group}=xyzzy") == expected


def test_an_unknown_name_is_told_in_a_list_and_in_a_sweep_too(error_of):
    for arguments in (["callbacks=[default,emma]"], ["-m", "callbacks=emma", "seed=1,2"]):
        line = "callbacks=emma: no such option (did you mean ema?); there are collapse, default, ema, "
        assert error_of(train.main, *arguments).startswith(line)


@pytest.mark.parametrize("choice", [[], ["pooling=kmax"]])
def test_a_value_of_both_poolings_is_set_one_by_one(error_of, choice):
    line = "pooling.k: no such setting (did you mean image_pooling.k or text_pooling.k?)"
    assert error_of(train.main, *choice, "pooling.k=3") == line


READ_OTHERWISE = ("images=a b", "a=b", "~b")  # as the value itself, as another setting, as one to delete


@pytest.mark.parametrize(
    "value", ["a=b", "a(1)/b", "a,b", "~b", "/犬/é", "it's (1)", 'say "a"', "a b", "{a}", "[a", "a!b=c", "\\a(\\"]
)
def test_what_an_error_says_to_type_gives_the_value(error_of, command_line, value):
    def command() -> None:
        run_on_config(lambda config: done.append(config.images), "index", bare="images")

    done: list[str] = []
    for typed in ([value], [f"images={value}"], [f"--images={value}"], ["--images", value]):
        if typed[0] in READ_OTHERWISE:
            continue
        line = error_of(command, *typed, "out=x", "model=x")
        meant = re.search(r"[Tt]ype (.+?)( for one value with a comma|$)", line)[1]
        shell = subprocess.run(["bash", "-c", f"printf %s {meant}"], capture_output=True, text=True, check=True)
        command_line(shell.stdout, "out=x", "model=x")
        command()
        assert done.pop() == value


def test_a_typo_in_an_experiment_file_is_an_error(command_line, capfd, tmp_path):
    (tmp_path / "mine" / "experiment").mkdir(parents=True)
    (tmp_path / "mine" / "experiment" / "ours.yaml").write_text("# @package _global_\ntrainer: {max_epochs: 1}\n")
    (tmp_path / "mine" / "experiment" / "typo.yaml").write_text("# @package _global_\noptimizer: {learning: 1}\n")
    done = []
    for name in ("ours", "typo"):
        command_line("--config-dir", "mine", f"experiment={name}")
        try:
            run_on_config(lambda config: done.append(config.trainer.max_epochs))
        except SystemExit:
            assert name == "typo"
    assert done == [1]
    assert capfd.readouterr().err == "error: optimizer.learning: no such setting (did you mean optimizer.lr?)\n"


def test_full_errors_on_demand(command_line, monkeypatch):
    command_line("experiment=nope")
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    with pytest.raises(Exception, match="Could not find 'experiment/nope'"):
        train.main()


@pytest.mark.parametrize(
    ("argument", "line"),
    [
        ("precision=fp16", "trainer: Precision 'fp16' is invalid."),
        ("devices=0", "trainer: `Trainer(devices=0)` value is"),
    ],
)
def test_what_a_library_refuses_is_told_in_one_line(error_of, argument, line):
    assert error_of(train.main, "debug=fast", f"trainer.{argument}").startswith(line)


@pytest.mark.parametrize(
    ("typed", "line"),
    [
        (["adapters.rank=0"], "adapters.rank=0, expected a whole number from 1 to "),
        (["adapters.dropout=1"], "adapters.dropout=1, expected at least 0 and less than 1"),
        ([], "adapters: no layer of the backbone of the images to adapt; set adapters.images=false"),
    ],
)
def test_adapters_that_cannot_be_are_told_in_one_line(error_of, typed, line):
    few = [f"dataset.source.{split}=5" for split in ("train", "dev", "test")]
    assert error_of(train.main, "adapters=lora", "workers=0", *few, *typed).startswith(line)


def test_adapters_without_their_library_are_told_in_one_line(error_of, monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    monkeypatch.delitem(sys.modules, "vse_gpo.training.lora", raising=False)
    monkeypatch.delattr("vse_gpo.training.lora", raising=False)
    line = "peft is needed for this and not installed; pip install 'vse_gpo[lora]'"
    assert error_of(train.main, "debug=fast", "adapters=lora") == line


@pytest.mark.parametrize("typed", ["trainer.sync_batchnorm=true", "++trainer.sync_batchnorm=true"])
def test_a_synchronised_batchnorm_is_not_synchronised_again(error_of, typed):
    line = "trainer.sync_batchnorm=true would break timm's BatchNorms; leave it out: that of the region projection is "
    assert error_of(train.main, "trainer=ddp", typed).startswith(line)


def test_a_bug_keeps_its_traceback(command_line):
    command_line()
    with pytest.raises(ZeroDivisionError):
        run_on_config(lambda config: 1 / 0)


def test_a_failed_job_does_not_stop_a_sweep(command_line, capfd):
    command_line("-m", "seed=1,2,3")
    done = []

    def job(config):
        if config.seed == 2:
            raise VSEError("seed 2 fails")
        done.append(config.seed)

    with pytest.raises(SystemExit):
        run_on_config(job)
    assert done == [1, 3]
    error = capfd.readouterr().err
    assert "seed=2" in error
    assert error.endswith("\nerror: seed 2 fails\n")


def test_an_argument_that_a_part_does_not_take_is_the_users_error(command_line, capfd, tmp_path):
    for part in ("{_target_: vse_gpo.errors.VSEErorr}", "{_target_: pathlib.Path.touch, mod: 1, self: x}"):
        command_line(f"+callbacks.extra={part}")
        with pytest.raises(SystemExit):
            run_on_config(lambda config: instantiate(config.callbacks.extra))
        assert capfd.readouterr().err.startswith("error: Error ")


# configs


@pytest.mark.parametrize(
    ("choices", "name"),
    [
        *(([f"debug={name}"], "shapes") for name in DEBUGS),
        *(
            ([choice], "shapes")
            for choice in ("callbacks=[default,ema,wise]", "optimizer=adamp", "optimizer/build=adamp")
        ),
        (["adapters=lora"], "shapes"),
        (["loss=margin_softmax"], "shapes"),
        (["experiment=f8k_region", "dataset.root=x"], "f8k_region"),
    ],
)
def test_every_name_in_a_shipped_config_exists(command_line, choices, name):
    """Those of all experiments: tests/test_experiments.py."""
    command_line(*choices)
    names = []
    run_on_config(lambda config: names.append(config.name))
    assert names == [name]


# installed


def test_an_installed_wheel_carries_its_configs(tmp_path):
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "--no-cache-dir"]
    wheel = [*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", tmp_path, ROOT]
    assert run(*wheel, cwd=tmp_path).stderr == ""
    [file] = tmp_path.glob("vse_gpo-*.whl")
    assert run(*pip, "install", "--no-deps", "--target", tmp_path / "site", file, cwd=tmp_path).returncode == 0
    done = run(
        tmp_path / "site" / "bin" / "vse-train", "--info", "searchpath", cwd=tmp_path, PYTHONPATH=str(tmp_path / "site")
    )
    assert f"file://{tmp_path}/site/vse_gpo/configs" in done.stdout.replace(" ", "")
    done = run(tmp_path / "site" / "bin" / "vse-train", "--cfg", "job", cwd=tmp_path, PYTHONPATH=str(tmp_path / "site"))
    assert (done.returncode, done.stderr) == (0, "")
    assert "name: shapes" in done.stdout
