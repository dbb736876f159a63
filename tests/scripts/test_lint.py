"""The project's own linter finds docstrings with other parameters than the signature, and large files."""

import sys
from pathlib import Path

import pytest

from scripts.lint import LARGEST, check_docstrings, check_file, main


def function(signature: str, *entries: str, before: str = "def work") -> str:
    """Source of a function with these entries in its ``Args:`` section."""
    lines = ["Work.", "", "Args:", *(f"    {entry}" for entry in entries), "", "Returns:", "    other: a number."]
    return f'{before}{signature}:\n    """' + "\n    ".join(lines) + '\n    """\n'


@pytest.mark.parametrize(
    ("source", "problems"),
    [
        (function("(a, *rest, b=1, **more)", "a: one.", "rest, more: others.", "b: as", "    c: says."), []),
        (function("(*parts)", "*parts: stars may stay."), []),
        (function("(a, b)", "a, b: both."), []),
        (function("(a, _hidden=None)", "a: one."), []),
        ("def work(a):\n    '''No section, no duty.'''\n", []),
        (function("(a, b)", "a: one."), ["leaves out: b"]),
        (function("(a)", "a: one.", "b: gone."), ["documents no parameter of its own: b"]),
        (function("(a, b)", "a, c: both."), ["documents no parameter of its own: c", "leaves out: b"]),
        (function("(a)", "a: one.", "a: again."), ["documents twice: a"]),
        (
            function("(a)", "b: gone.", before="async def work"),
            ["documents no parameter of its own: b", "leaves out: a"],
        ),
    ],
)
def test_a_functions_parameters_are_named_once_and_no_others(source, problems):
    assert [problem for _, problem in check_docstrings(source)] == [f"docstring of work {one}" for one in problems]


@pytest.mark.parametrize(
    ("head", "body", "problems"),
    [
        ("class Work", "    def __init__(self, a, b): ...", ["leaves out: b"]),
        ("class Work(NamedTuple)", "    a: int\n    b: int", ["leaves out: b"]),
        ("@dataclass(frozen=True)\nclass Work", "    a: int\n    b: int", ["leaves out: b"]),
        ("class Work(Other)", "    b: int", []),  # takes what the other class takes
    ],
)
def test_a_class_is_documented_by_what_makes_it(head, body, problems):
    source = f"{head}:\n    '''Work.\n\n    Args:\n        a: one.\n    '''\n\n{body}\n"
    assert [problem for _, problem in check_docstrings(source)] == [f"docstring of Work {one}" for one in problems]


def test_a_large_file_is_named_with_its_size(tmp_path):
    for size, problems in ((LARGEST, 0), (LARGEST + 1, 1)):
        (tmp_path / "weights.bin").write_bytes(bytes(size))
        assert len(list(check_file(tmp_path / "weights.bin"))) == problems
    (problem,) = check_file(tmp_path / "weights.bin")
    assert "weights.bin: 1,000,001 bytes, expected at most 1,000,000" in problem


def test_the_command_fails_with_a_line_for_each_problem(tmp_path, monkeypatch):
    file = tmp_path / "module.py"
    file.write_text(function("(a)", "b: gone."))
    monkeypatch.setattr(sys, "argv", ["lint.py", str(file), str(tmp_path / "deleted.py")])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert str(stopped.value).splitlines() == [
        f"{file}:1: docstring of work documents no parameter of its own: b",
        f"{file}:1: docstring of work leaves out: a",
    ]


def test_the_linter_itself_passes(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["lint.py", str(Path(__file__).parents[2] / "scripts" / "lint.py")])
    main()
