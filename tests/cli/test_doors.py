"""Every command: what it hands on, what it answers without its work, and what it refuses."""

import inspect
import json
import os
import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from vse_gpo.cli import run
from vse_gpo.cli.folders import config_folder

DOORS: dict[str, tuple[str, list[str]]] = {  # command → its module and what it cannot do without
    "train": ("vse_gpo.train", []),
    "evaluate": ("vse_gpo.evaluate", ["checkpoint=best.ckpt"]),
    "compare": ("vse_gpo.compare", ["a", "b"]),
    "convert": ("vse_gpo.convert", ["best.ckpt", "out"]),
    "extract": ("vse_gpo.extract", ["dataset.root=data", "backbone.network.name=resnet18", "out=out"]),
    "export": ("vse_gpo.export", ["model=best.ckpt", "out=out"]),
    "index": ("vse_gpo.index", ["images=photos", "model=best.ckpt", "out=out"]),
    "search": ("vse_gpo.search.__main__", ["a dog", "index=out"]),
    "duplicates": ("vse_gpo.search.duplicates", ["index=out"]),
    "app": ("vse_gpo.app", ["index=out"]),
    "report": ("vse_gpo.report", ["runs/a", "runs/b"]),
    "dashboard": ("vse_gpo.reporting.dashboard", ["entity/project"]),
    "check_data": ("vse_gpo.check_data", ["dataset.root=data"]),
    "prepare": ("vse_gpo.prepare", ["captions.csv", "out"]),
    "prepare_vocabulary": ("vse_gpo.prepare", ["vocabulary", "data", "vocabulary.json"]),
    "plot": ("vse_gpo.plot", ["runs/a", "out.png"]),
}
WITH_WORDS = ("compare", "convert", "search", "report", "dashboard", "prepare", "prepare_vocabulary", "plot")
FIRST = {"prepare_vocabulary": ["vocabulary"]}  # words that choose among a door's commands
every_door = pytest.mark.parametrize("door", DOORS)


def main_of(door: str) -> Callable[[], None]:
    main: Callable[[], None] = import_module(DOORS[door][0]).main
    return main


@pytest.fixture
def handed_on(monkeypatch, command_line) -> Callable[..., tuple[Callable[..., object], dict[str, Any]]]:
    """Gives a command's work and the arguments that it would be done with."""

    def of(door: str, *arguments: str) -> tuple[Callable[..., object], dict[str, Any]]:
        works, named = [], {}

        def note(work: str) -> Callable[..., object]:
            works.append(imported(work))
            return named.update

        command_line(*arguments)
        with monkeypatch.context() as patch:
            patch.setattr(run, "_imported", note)
            main_of(door)()
        return works[0], named

    imported = run._imported
    return of


def test_every_command_is_tested():
    assert set(DOORS) == {path.stem for path in Path(config_folder()).glob("*.yaml")} - {"base"}


@every_door
def test_a_command_hands_on_exactly_what_its_work_takes(handed_on, tmp_path, door):
    work, named = handed_on(door, *DOORS[door][1])
    parameters = inspect.signature(work).parameters.values()
    assert all(parameter.kind is inspect.Parameter.KEYWORD_ONLY for parameter in parameters)
    assert set(named) == {parameter.name for parameter in parameters}
    assert not any(path.is_file() for path in tmp_path.rglob("*"))


def test_a_page_is_asked_by_a_work_of_its_own(handed_on):
    work, named = handed_on("search", "a dog", "page=http://127.0.0.1:7860")
    assert f"{work.__module__}.{work.__name__}" == "vse_gpo.search.client.search_page"
    assert set(named) == set(inspect.signature(work).parameters)


@every_door
def test_no_config_reaches_the_work(handed_on, door):
    """Plain containers, and functions that build parts."""

    def is_plain(value: Any) -> bool:
        if isinstance(value, dict):
            return all(is_plain(part) for part in value.values())
        if isinstance(value, list):
            return all(is_plain(part) for part in value)
        return value is None or isinstance(value, str | int | float | Path) or callable(value)

    _, named = handed_on(door, *DOORS[door][1])
    assert [name for name, value in named.items() if not is_plain(value)] == []


@pytest.mark.parametrize(
    ("door", "arguments", "expected"),
    [
        ("compare", ["a,b", "lr=c"], {"first": "a,b", "second": "lr=c"}),
        ("compare", ["a,b", "second={c}"], {"first": "a,b", "second": "{c}"}),
        ("convert", ["it's (1).ckpt", "out"], {"model": "it's (1).ckpt", "out": "out"}),
        ("search", ['${seed}, {a} "b"', "index=x"], {"query": '${seed}, {a} "b"', "image": None}),
        ("search", ["image=${a}.jpg", "index=x"], {"query": None, "image": "${a}.jpg"}),
        ("search", ["index=x", "--", "-m"], {"query": "-m"}),
        ("report", ["a b", "c,d", "out=x.html"], {"runs": ["a b", "c,d"], "out": "x.html"}),
        ("report", ["runs=[a,b]"], {"runs": ["a", "b"]}),
        ("plot", ["a=b/c", "out=~/x.png"], {"run": "a=b/c", "out": "~/x.png"}),
        ("index", ["images=~/photos", "out=x"], {"images": str(Path.home() / "photos"), "out": "x"}),
        ("evaluate", ["checkpoint=[a,~/b]"], {"checkpoints": ["a", str(Path.home() / "b")], "embeddings": []}),
        ("evaluate", ["checkpoint=a", "protocols=cxc"], {"checkpoints": ["a"], "protocols": ["cxc"]}),
    ],
)
def test_words_and_paths_reach_the_work_as_they_were_typed(handed_on, door, arguments, expected):
    _, named = handed_on(door, *arguments)
    assert {name: named[name] for name in expected} == expected


# errors


REFUSED = [  # what is typed, and the line that answers it
    (["hydra.run.dri=x"], "hydra.run.dri: no such setting"),
    (["--verbose"], "--verbose: no such flag, settings are name=value; type verbose=…"),
    (["hydra.run.dir=a(b"], "hydra.run.dir=a(b: cannot be read as name=value; type \"hydra.run.dir='a(b'\""),
    (["hydra.run.dir=a,b"], "hydra.run.dir=a,b: one value or several? Type \"hydra.run.dir='a,b'\" for one value"),
    (["hydra/launcher=slurm"], "hydra/launcher=slurm: no such option; there are basic, "),
]


@pytest.mark.parametrize(
    ("door", "typed", "line"),
    [(door, *REFUSED[0]) for door in DOORS]
    + [(door, *refused) for door in ("train", "search") for refused in REFUSED[1:]],  # without and with words
)
def test_any_command_refuses_in_one_line(error_of, door, typed, line):
    assert error_of(main_of(door), *DOORS[door][1], *typed).startswith(line)


@every_door
def test_an_unknown_setting_is_refused(error_of, door):
    if door in WITH_WORDS:
        assert "one word too many" in error_of(main_of(door), *DOORS[door][1], "xyzzy=1") or door == "report"
    else:
        assert error_of(main_of(door), *DOORS[door][1], "xyzzy=1") == "xyzzy: no such setting"


@pytest.mark.parametrize("door", [door for door, (_, needed) in DOORS.items() if needed])
def test_what_a_command_cannot_do_without_is_told(error_of, door):
    assert (
        "; add " in error_of(main_of(door), *FIRST.get(door, [])) or door == "evaluate"
    )  # which may also take embeddings=


@pytest.mark.parametrize(
    ("door", "setting"),
    [
        ("train", "dataset.root"),
        ("evaluate", "checkpoint"),
        ("extract", "dataset.root"),
        ("export", "model"),
        ("index", "images"),
        ("app", "index"),
        ("check_data", "dataset.root"),
    ],
)
def test_a_bare_path_is_told_with_its_setting(error_of, door, setting):
    line = f"runs/a(1).ckpt: cannot be read as name=value; type \"{setting}='runs/a(1).ckpt'\""
    assert error_of(main_of(door), "runs/a(1).ckpt") == line


def test_a_search_looks_for_something(error_of):
    search = main_of("search")
    assert error_of(search, "a dog", "stdin=true", "index=x") == "stdin=true and query=a dog, expected one of them"
    for query in ([], [""], [" "]):
        assert error_of(search, *query, "index=x") == 'nothing to look for; add "a text" or image=FILE'


# without the work

PROGRAM = """
import json, sys, io
from contextlib import redirect_stdout, redirect_stderr
from importlib import import_module

LARGE = {"torch", "pytorch_lightning", "transformers", "timm", "wandb", "matplotlib", "optuna", "gradio", "lance"}
found = {}
for name, (module, first) in json.loads(sys.argv[1]).items():
    for arguments in (["--help"], ["--cfg", "job"], ["hydra.nope=1"]):
        out, err, status = io.StringIO(), io.StringIO(), 0
        sys.argv = [f"vse-{name}", *first, *arguments]
        with redirect_stdout(out), redirect_stderr(err):
            try:
                import_module(module).main()
            except SystemExit as exit:
                status = exit.code or 0
        large = sorted(sys.modules.keys() & LARGE)
        found[f"{name} {arguments[0]}"] = [status, out.getvalue(), err.getvalue(), large]
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def answers(tmp_path_factory) -> dict[str, tuple[int, str, str, list[str]]]:
    """Of every command in turn, in one process: exit status, both outputs, and the large packages imported so far."""
    modules = json.dumps({door: (module, FIRST.get(door, [])) for door, (module, _) in DOORS.items()})
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, modules],
        cwd=tmp_path_factory.mktemp("empty"),
        env={name: value for name, value in os.environ.items() if name != "HYDRA_FULL_ERROR"},
        capture_output=True,
        text=True,
        check=True,
    )
    found: dict[str, tuple[int, str, str, list[str]]] = json.loads(done.stdout)
    return found


@every_door
def test_help_a_config_and_its_errors_need_no_torch(answers, door):
    status, text, errors, large = answers[f"{door} --help"]
    assert (status, errors, large) == (0, "", [])
    name = DOORS[door][0].removesuffix(".__main__").rpartition(".")[2]
    command = " ".join([f"vse-{name.replace('_', '-')}", *FIRST.get(door, [])])
    assert f"{command} " in text
    status, text, errors, large = answers[f"{door} --cfg"]
    assert (status, errors, large) == (0, "", [])
    assert text
    assert answers[f"{door} hydra.nope=1"] == [1, "", "error: hydra.nope: no such setting\n", []]
