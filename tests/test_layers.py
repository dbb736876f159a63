"""The shape of the package: imports point one way, modules stay small, and each has its test."""

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import vse_gpo

PACKAGE = Path(vse_gpo.__file__).parent
SOURCE, TESTS = PACKAGE.parent, Path(__file__).parent

# from the bottom up: a room knows the layers below it and itself, not the others of its layer
LAYERS = {
    "errors": {"errors"},
    "shapes and files": {"batch", "precision", "storage"},  # files of any model: storage knows none
    "sequences": {"gru"},
    "parts": {"data", "backbones", "pooling", "interaction", "losses", "retrieval"},
    "encoder": {"encoder"},
    "model": {"model"},
    "checkpoints": {"checkpoints"},
    "evaluation": {"evaluation"},
    "figures": {"figures"},
    "training": {"training"},
    "uses": {"reporting", "search"},
    "command line": {"cli"},
    "doors": {
        *("train", "evaluate", "compare", "convert", "extract", "export", "index", "app", "report", "check_data"),
        *("prepare", "plot", "search.__main__", "search.duplicates", "reporting.dashboard"),
    },
    "public names": {"vse_gpo"},  # the package itself, which imports them when they are asked for
}
LEVEL = {room: level for level, rooms in enumerate(LAYERS.values()) for room in rooms}
DOORS = LAYERS["doors"]
READ_CONFIGS = LAYERS["command line"] | DOORS
LATE = {"model": "vse_gpo.checkpoints.sources.load_model"}  # a method of the class, whose work lies above it
KNOW_LIGHTNING = ("evaluation.", "training.", "checkpoints.atomic", "data.datamodule")

MODULES = {  # dotted name inside the package → file
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
    .removesuffix(".__init__")
    .replace("__init__", "vse_gpo"): path
    for path in sorted(PACKAGE.rglob("*.py"))
}
FILES = sorted(SOURCE.rglob("*.py"))  # Hydra's plugin among them


def room_of(module: str) -> str:
    """The first part of a module's name; a room's ``__main__`` is a door."""
    return module if module in DOORS else module.partition(".")[0]


def imported_names(source: str) -> list[str]:
    """Dotted names of everything that a module imports, wherever in it."""
    names = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports name the whole package"
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return names


def violations(module: str, source: str) -> list[str]:
    """What a module imports and should not know."""
    room = room_of(module)
    wrong = []
    for name in imported_names(source):
        if LATE.get(module) == name:
            continue
        top, _, rest = name.partition(".")
        if top == "vse_gpo":
            other = room_of(rest)
            known = other in LEVEL and (other == room or LEVEL[other] < LEVEL[room])
        elif top in ("hydra", "omegaconf"):
            known = room in READ_CONFIGS
        elif top in ("pytorch_lightning", "lightning_fabric", "lightning"):
            known = module.startswith(KNOW_LIGHTNING)
        else:
            known = True
        if not known:
            wrong.append(name)
    return wrong


@pytest.mark.parametrize("module", MODULES)
def test_a_module_knows_only_what_lies_below(module):
    assert room_of(module) in LEVEL, "a new room: give it a place in LAYERS and in the documentation of the design"
    assert violations(module, MODULES[module].read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("module", "source", "wrong"),
    [
        ("encoder", "from vse_gpo.pooling import GPO", []),
        ("pooling.gpo", "from vse_gpo.encoder import Encoder", ["vse_gpo.encoder.Encoder"]),
        ("pooling.gpo", "from vse_gpo.backbones.grid import Grid", ["vse_gpo.backbones.grid.Grid"]),
        ("storage.hub", "from vse_gpo.batch import Batch", ["vse_gpo.batch.Batch"]),
        ("losses", "def late():\n    import vse_gpo.data.split", ["vse_gpo.data.split"]),
        ("model", "from hydra.utils import instantiate", ["hydra.utils.instantiate"]),
        ("checkpoints.atomic", "import pytorch_lightning as pl", []),
        ("checkpoints.export", "import pytorch_lightning as pl", ["pytorch_lightning"]),
        ("search.asking", "import vse_gpo.cli.run", ["vse_gpo.cli.run"]),
        ("search.__main__", "import omegaconf, vse_gpo.cli.run", []),
        ("train", "import hydra, vse_gpo.evaluate", ["vse_gpo.evaluate"]),
    ],
)
def test_the_rule_finds_what_it_should(module, source, wrong):
    assert violations(module, source) == wrong


def test_no_module_imports_itself_by_way_of_others():
    def module_of(name: str) -> str:
        rest = name.removeprefix("vse_gpo.")
        while rest not in MODULES:
            rest = rest.rpartition(".")[0] or "vse_gpo"
        return rest

    graph = {
        module: {
            module_of(name)
            for name in imported_names(path.read_text("utf-8"))
            if name.startswith("vse_gpo") and LATE.get(module) != name
        }
        for module, path in MODULES.items()
    }
    assert len([*TopologicalSorter(graph).static_order()]) == len(MODULES)  # it raises CycleError


def test_no_two_classes_or_public_functions_have_one_name():
    """But for what every door has."""
    owners: dict[str, list[str]] = {}
    for module, path in MODULES.items():
        for node in ast.parse(path.read_text("utf-8")).body:
            if isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_"):
                owners.setdefault(node.name, []).append(module)
    doubled = {name: modules for name, modules in owners.items() if len(modules) > 1}
    assert {name: modules for name, modules in doubled.items() if not set(modules) <= DOORS} == {}


# small enough to read


def test_the_top_level_shows_the_plan():
    assert len(list(PACKAGE.glob("*.py"))) <= 20


def test_no_module_is_long_and_a_door_is_short():
    lines = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in FILES}
    assert {str(path): count for path, count in lines.items() if count > 300} == {}
    assert {door: lines[MODULES[door]] for door in DOORS if lines[MODULES[door]] > 60} == {}


def test_few_imports_wait_inside_functions():
    def inside_functions() -> Iterator[str]:
        for path in FILES:
            functions = [
                node for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.FunctionDef)
            ]
            waiting = {
                node for one in functions for node in ast.walk(one) if isinstance(node, ast.Import | ast.ImportFrom)
            }
            yield from (f"{path}: {ast.unparse(node)}" for node in waiting)

    assert len(list(inside_functions())) <= 15, "\n".join(inside_functions())


def test_few_lines_are_kept_from_the_type_checker():
    assert sum(path.read_text(encoding="utf-8").count("type: ignore") for path in FILES) <= 15


# each module has its test

TESTED_ELSEWHERE = {
    **dict.fromkeys(DOORS, "tests/cli/test_doors.py, all alike"),
    "cli.folders": "every test that composes a config asks for the folder",
}


@pytest.mark.parametrize("module", [name for name, path in MODULES.items() if path.name != "__init__.py"])
def test_a_module_has_a_test_of_its_name(module):
    *folders, name = module.split(".")
    there = TESTS.joinpath(*folders, f"test_{name}.py").is_file()
    assert there or module in TESTED_ELSEWHERE
