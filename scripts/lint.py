"""python scripts/lint.py [FILES] : what other linters do not check, in these files or in all of the repository.

- An ``Args:`` section names each parameter of its function or class once, and nothing else. Names may share an entry,
  as ``width, height: pixels.``
- No file is larger than 1 MB: weights, features and data sets live elsewhere.
"""

import ast
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

LARGEST = 1_000_000  # bytes
ENTRY = re.compile(r"(\*{0,2}\w+(?:, \*{0,2}\w+)*):(?:\s|$)")
Function = ast.FunctionDef | ast.AsyncFunctionDef


def main() -> None:
    """The command: a line for each problem, and exit status 1 where there is one."""
    paths = [Path(name) for name in sys.argv[1:] or repository_files()]
    problems = [problem for path in paths if path.is_file() for problem in check_file(path)]
    if problems:
        sys.exit("\n".join(problems))


def repository_files() -> list[str]:
    """Files that git tracks, and new ones that it does not ignore."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.split("\0")[:-1]


def check_file(path: Path) -> Iterator[str]:
    """Problems of one file, as ``path:line: what is wrong``."""
    size = path.stat().st_size
    if size > LARGEST:
        yield f"{path}: {size:,} bytes, expected at most {LARGEST:,}; keep it outside the repository"
    if path.suffix == ".py":
        for line, problem in check_docstrings(path.read_text(encoding="utf-8")):
            yield f"{path}:{line}: {problem}"


def check_docstrings(source: str) -> Iterator[tuple[int, str]]:
    """Line and text of each problem in the docstrings of a module's functions and classes."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, Function | ast.ClassDef):
            continue
        documented, expected = documented_names(ast.get_docstring(node) or ""), parameters(node)
        if not documented or expected is None:
            continue
        problems = {
            "documents no parameter of its own": [name for name in documented if name not in expected],
            "leaves out": [name for name in expected if name not in documented and not name.startswith("_")],
            "documents twice": [name for name, times in Counter(documented).items() if times > 1],
        }
        for problem, names in problems.items():
            if names:
                yield node.lineno, f"docstring of {node.name} {problem}: {', '.join(names)}"


def documented_names(docstring: str) -> list[str]:
    """Names at the heads of the entries in an ``Args:`` section, without their stars; none where there is no section.

    The section ends at the first line that is not indented; deeper lines continue an entry.
    """
    _, section, below = f"\n{docstring}\n".partition("\nArgs:\n")
    names: list[str] = []
    for line in below.splitlines() if section else ():
        if line and not line.startswith(" "):
            break
        entry = ENTRY.match(line.removeprefix("    "))
        if entry:
            names += [name.lstrip("*") for name in entry[1].split(", ")]
    return names


def parameters(node: Function | ast.ClassDef) -> list[str] | None:
    """Parameters of a function, or of what makes a class's instances; None for a class that inherits its own."""
    if isinstance(node, ast.ClassDef):
        makers = [one for one in node.body if isinstance(one, Function) and one.name == "__init__"]
        if makers:
            return parameters(makers[0])
        fields = [
            one.target.id for one in node.body if isinstance(one, ast.AnnAssign) and isinstance(one.target, ast.Name)
        ]
        return fields if is_record(node) else None
    signature = node.args
    positional = [*signature.posonlyargs, *signature.args]
    if positional and positional[0].arg in ("self", "cls"):
        positional = positional[1:]
    rest = [one for one in (signature.vararg, *signature.kwonlyargs, signature.kwarg) if one is not None]
    return [one.arg for one in (*positional, *rest)]


def is_record(node: ast.ClassDef) -> bool:
    """Whether the class is made of its annotated fields: a dataclass or a NamedTuple that inherits no others."""
    return "NamedTuple" in map(ast.unparse, node.bases) or (
        not node.bases and any(ast.unparse(one).startswith("dataclass") for one in node.decorator_list)
    )


if __name__ == "__main__":
    main()
