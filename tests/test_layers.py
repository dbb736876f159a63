"""Imports point one way: each room of the package knows only those below it, and its own."""

import ast
from pathlib import Path

import pytest

import vse_gpo

PACKAGE = Path(vse_gpo.__file__).parent
LAYERS = [
    {"errors"},
    {"writing", "batch", "gru", "hub", "build", "released", "launch", "card", "memory"},
    {"data", "backbones", "pooling", "losses", "retrieval"},
    {"encoder"},
    {"model"},
    {"phases", "optimizer", "micro_batches", "checkpoints", "collector", "towers", "trunks", "compilation"},
    {"module"},
    {"callbacks", "loggers", "search"},
    {"commands", "results", "published"},
    {"run_folder"},
    {"reporting"},
    {
        "train",
        "evaluate",
        "compare",
        "convert",
        "extract",
        "export",
        "index",
        "search.__main__",
        "app",
        "report",
        "check_data",
    },
]
LEVEL = {room: level for level, rooms in enumerate(LAYERS) for room in rooms}
COMMANDS = LAYERS[-1] | LAYERS[-4] | {"run_folder"}
LIGHTNING = {"phases", "module", "callbacks", "loggers", "checkpoints"} | COMMANDS
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def room_of(path: Path) -> str:
    """The module's name, or that of its folder; a folder's ``__main__`` is a command."""
    room, *inside = path.relative_to(PACKAGE).with_suffix("").parts
    return f"{room}.__main__" if inside == ["__main__"] else room


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


def violations(room: str, source: str, *, datamodule: bool = False) -> list[str]:
    """What a module of a room imports and should not know."""
    wrong = []
    for name in imported_names(source):
        top, *rest = name.split(".")
        if top == "vse_gpo":
            known = rest[0] in LEVEL and (rest[0] == room or LEVEL[rest[0]] < LEVEL[room])
        elif top in ("hydra", "omegaconf"):
            known = room in COMMANDS
        elif top in ("pytorch_lightning", "lightning_fabric", "lightning"):
            known = room in LIGHTNING or datamodule
        else:
            known = True
        if not known:
            wrong.append(name)
    return wrong


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_knows_only_what_lies_below(path):
    datamodule = path == PACKAGE / "data" / "datamodule.py"
    assert room_of(path) in LEVEL, "a new room: give it a place in LAYERS and in the README"
    assert violations(room_of(path), path.read_text(encoding="utf-8"), datamodule=datamodule) == []


@pytest.mark.parametrize(
    ("room", "source", "wrong"),
    [
        ("encoder", "from vse_gpo.pooling import GPO", []),
        ("pooling", "from vse_gpo.encoder import Encoder", ["vse_gpo.encoder.Encoder"]),
        ("losses", "def late():\n    import vse_gpo.data.split", ["vse_gpo.data.split"]),
        ("model", "from hydra.utils import instantiate", ["hydra.utils.instantiate"]),
        ("optimizer", "import pytorch_lightning as pl", ["pytorch_lightning"]),
        ("train", "import hydra, vse_gpo.commands", []),
    ],
)
def test_the_rule_finds_what_it_should(room, source, wrong):
    assert violations(room, source) == wrong
