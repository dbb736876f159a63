"""What the project's own files say of it: one version, valid citation, complete metadata."""

import re
import tomllib
from importlib import import_module
from pathlib import Path

import pytest
import yaml

import vse_gpo

REPOSITORY = Path(__file__).parents[1]
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_every_file_names_the_same_version():
    citation = yaml.safe_load((REPOSITORY / "CITATION.cff").read_text(encoding="utf-8"))
    newest = re.search(r"^## \[(.+?)\]", (REPOSITORY / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert newest is not None
    assert {vse_gpo.__version__, PROJECT["version"], citation["version"], newest[1]} == {PROJECT["version"]}


def test_the_citation_has_what_its_format_requires():
    citation = yaml.safe_load((REPOSITORY / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["cff-version"] == "1.2.0"
    assert citation.keys() >= {"message", "title", "authors"}
    assert citation["title"] == PROJECT["name"]
    assert citation["license"] == PROJECT["license"]
    assert citation["authors"] == PROJECT["authors"]
    paper = citation["preferred-citation"]
    assert paper.keys() >= {"type", "title", "authors"}
    assert paper["url"] == PROJECT["urls"]["Paper"]
    assert [author["family-names"] for author in paper["authors"]] == ["Chen", "Hu", "Wu", "Jiang", "Wang"]
    assert (paper["year"], paper["start"], paper["end"]) == (2021, 15789, 15798)


@pytest.mark.parametrize("extra", [None, *PROJECT["optional-dependencies"]])
def test_every_dependency_has_a_lower_and_an_upper_bound(extra):
    needed = PROJECT["optional-dependencies"][extra] if extra else PROJECT["dependencies"]
    assert [one for one in needed if not re.fullmatch(r"[\w-]+(\[\w+\])?>=[\d.]+,<[\d.]+", one)] == []


def test_every_command_has_a_module_and_every_module_a_command():
    commands = PROJECT["scripts"]
    for name, target in commands.items():
        module, _, function = target.partition(":")
        assert callable(getattr(import_module(module), function))
        door = module.removesuffix(".__main__").rpartition(".")[2]
        assert name == f"vse-{door.replace('_', '-')}"
    package = Path(vse_gpo.__file__).parent
    doors = {
        path.parent.name if path.stem == "__main__" else path.stem
        for path in package.rglob("*.py")
        if "run_command(" in path.read_text(encoding="utf-8") and path.parent.name != "cli"
    }
    assert {f"vse-{door.replace('_', '-')}" for door in doors} == set(commands)
