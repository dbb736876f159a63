"""What a user meets first: help, the config, and errors in one line."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import OmegaConf

from tests.helpers.tiny_root import tiny_root
from vse_gpo import train
from vse_gpo.cli.messages import user_message
from vse_gpo.cli.run import config_folder, run_command
from vse_gpo.errors import VSEError

DEBUGS = sorted(path.stem for path in Path(config_folder()).glob("debug/*.yaml"))
ROOT = Path(__file__).parents[1]


@pytest.fixture
def command_line(monkeypatch, tmp_path):
    """Sets what was typed, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)

    def typed(*arguments: str) -> None:
        monkeypatch.setattr(sys, "argv", ["vse-train", *arguments])

    return typed


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
        (["seed"], "seed: cannot be read as name=value; quote special characters"),
        (["experiment=f8k_region"], "dataset.root must be set; add dataset.root=…"),
        (["dataset=f8k", "dataset.root=x", "+trainr.precision=16"], "trainr: no such setting (did you mean trainer?)"),
        (["experiment=f8k_region", "dataset.root=x", "seed=${sed}"], "Interpolation key 'sed' not found*"),
        (["experiment=f8k_region", "dataset.root=no/such", "text=bigru", "text.vocabulary=x"],
         "text.vocabulary=x: FileNotFoundError*"),
        (["callbacks=ema"],
         "callbacks without best, whose checkpoint the test takes; add default: callbacks=[default,…]"),
        (["experiment=f8k_region", "dataset.root=no/such", "text=bigru"], "text.vocabulary must be set; add*"),
    ],
)  # fmt: skip
def test_a_wrong_config_gets_one_line_and_leaves_nothing_behind(command_line, capfd, tmp_path, arguments, line):
    command_line(*arguments)
    with pytest.raises(SystemExit) as exit:
        train.main()
    assert exit.value.code == 1
    output = capfd.readouterr()
    assert output.out == ""
    assert output.err.count("\n") == 1
    assert output.err.removesuffix("\n").startswith(f"error: {line.removesuffix('*')}")
    assert line.endswith("*") or output.err == f"error: {line}\n"
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_the_number_of_words_is_read_from_the_vocabulary_and_must_fit_it(tmp_path):
    overrides = tiny_root(tmp_path)
    with initialize_config_dir(config_folder(), version_base="1.3"):
        config = compose("train", overrides)
        wrong = compose("train", [*overrides, "text.vocabulary_size=9"])
    settings = OmegaConf.to_container(config.text, resolve=True)
    assert settings["network"]["vocabulary_size"] == 12  # seven words, four special ones and <mask>
    assert instantiate(config.text.prepare).tokenizer.vocabulary_size == 12
    with pytest.raises(InstantiationException) as error:
        instantiate(wrong.text.prepare)
    assert "12 words with <mask>, the model knows 9" in user_message(error.value, "train")


def test_a_typo_in_an_experiment_file_is_an_error(command_line, capfd, tmp_path):
    (tmp_path / "mine" / "experiment").mkdir(parents=True)
    (tmp_path / "mine" / "experiment" / "ours.yaml").write_text("# @package _global_\ntrainer: {max_epochs: 1}\n")
    (tmp_path / "mine" / "experiment" / "typo.yaml").write_text("# @package _global_\noptimizer: {learning: 1}\n")
    done = []
    for name in ("ours", "typo"):
        command_line("--config-dir", "mine", f"experiment={name}")
        try:
            run_command(lambda config: done.append(config.trainer.max_epochs), "train")
        except SystemExit:
            assert name == "typo"
    assert done == [1]
    assert capfd.readouterr().err == "error: optimizer.learning: no such setting (did you mean optimizer.lr?)\n"


def test_full_errors_on_demand(command_line, monkeypatch):
    command_line("experiment=nope")
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    with pytest.raises(Exception, match="Could not find 'experiment/nope'"):
        train.main()


def test_a_bug_keeps_its_traceback(command_line):
    command_line()
    with pytest.raises(ZeroDivisionError):
        run_command(lambda config: 1 / 0, "train")


def test_a_failed_job_does_not_stop_a_sweep(command_line, capfd):
    command_line("-m", "seed=1,2,3")
    done = []

    def job(config):
        if config.seed == 2:
            raise VSEError("seed 2 fails")
        done.append(config.seed)

    with pytest.raises(SystemExit):
        run_command(job, "train")
    assert done == [1, 3]
    error = capfd.readouterr().err
    assert "seed=2" in error
    assert error.endswith("\nerror: seed 2 fails\n")


def test_the_message_of_a_cause_and_of_a_loaders_process_is_found():
    error = RuntimeError("outer")
    error.__cause__ = VSEError(
        "Caught VSEError in DataLoader worker process 0.\n  …\nvse_gpo.errors.VSEError: bad row 3\n"
    )
    assert user_message(error, "train") == "bad row 3"
    assert user_message(RuntimeError("a bug"), "train") is None


def test_an_argument_that_a_part_does_not_take_is_the_users_error(command_line, capfd, tmp_path):
    for part in ("{_target_: vse_gpo.errors.VSEErorr}", "{_target_: pathlib.Path.touch, mod: 1, self: x}"):
        command_line(f"+callbacks.extra={part}")
        with pytest.raises(SystemExit):
            run_command(lambda config: instantiate(config.callbacks.extra), "train")
        assert capfd.readouterr().err.startswith("error: Error ")


# configs


@pytest.mark.parametrize(
    ("choices", "name"),
    [
        *(([f"debug={name}"], "shapes") for name in DEBUGS),
        *(([choice], "shapes") for choice in ("callbacks=[default,ema]", "optimizer=adamp", "optimizer/build=adamp")),
        (["loss=margin_softmax"], "shapes"),
        (["experiment=f8k_region", "dataset.root=x"], "f8k_region"),
    ],
)
def test_every_name_in_a_shipped_config_exists(command_line, choices, name):
    """Those of all experiments: tests/test_experiments.py."""
    command_line(*choices)
    names = []
    run_command(lambda config: names.append(config.name), "train")
    assert names == [name]


# where a command runs from


def test_a_models_files_are_found_from_any_folder(tmp_path, monkeypatch):
    tiny_root(tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    with initialize_config_dir(config_folder(), version_base="1.3"):
        overrides = ["experiment=f30k_butd_region_bigru", "dataset.root=data", "text.vocabulary=data/vocabulary.json"]
        words = compose("train", overrides).text.prepare.tokenizer
        pieces = compose("train", ["experiment=f30k_butd_region", "dataset.root=data"]).text.prepare.tokenizer
    assert (words.path, pieces.pretrained) == (str(tmp_path / "data" / "vocabulary.json"), "bert-base-uncased")


@pytest.mark.parametrize("module", ["train", "extract"])
@pytest.mark.parametrize("flags", [("--help",), ("--cfg", "job")])
def test_help_and_config_need_no_torch(tmp_path, module, flags):
    program = (
        "import atexit, sys\n"
        "large = {'torch', 'pytorch_lightning', 'transformers', 'timm', 'wandb', 'matplotlib'}\n"
        "slow = lambda: sys.modules.keys() & large\n"
        f"atexit.register(lambda: print('slow imports:', sorted(slow()), file=sys.stderr))\n"
        f"from vse_gpo.{module} import main; main()"
    )
    done = run(sys.executable, "-c", program, *flags, cwd=tmp_path)
    assert done.returncode == 0
    assert done.stderr == "slow imports: []\n"
    assert ("optimizer.lr=5e-4" if flags == ("--help",) and module == "train" else "dataset") in done.stdout


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
