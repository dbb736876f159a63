"""What a check found of each part that a run needs, as a table, and what it comes to."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from vse_gpo.data.addresses import Address
from vse_gpo.errors import VSEError, printable

BACKBONES = {"features": "region backbones", "images": "grid backbones"}  # what each kind of input trains
UNCHECKED = "not checked: captions and ids come first"
UNSET = "???"  # a setting without a value
RUN = "–"  # in place of a split: a part that belongs to the run as a whole


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What was expected and found in one part of a split, or of the run."""

    split: str
    part: str  # captions, features, images, dense captions, weights, vocabulary, text encoder or annotations
    expected: str
    found: str = "–"
    problem: str | None = None
    optional: bool = False  # a training can do without it, or fetches it itself


class Need(NamedTuple):
    """One thing that a run needs beside its data set, and where it comes from."""

    finding: Finding
    addresses: Sequence[Address] = ()
    hub: str | None = None  # id of a model that the hub gives
    file: Path | None = None  # where the file of its only address goes


def print_findings(
    title: str,
    findings: Sequence[Finding],
    sources: Mapping[str, str],
    addresses: Mapping[str, Sequence[Address]],
    fetch_command: str,
) -> None:
    """Print a table of all findings, then the problems of each part and where to get that part.

    Args:
        title: of the table.
        findings: its rows.
        sources: part → what it is.
        addresses: part → where it comes from.
        fetch_command: fetches what this package can fetch.
    """
    console = Console(soft_wrap=True, highlight=False)
    table = Table("split", "part", "expected", "found", "", title=Text(printable(title)))
    for finding in findings:
        cells = (finding.split, finding.part, finding.expected, finding.found)
        table.add_row(*(Text(printable(cell)) for cell in cells), _mark(finding))
    console.print(table)
    for part in dict.fromkeys(finding.part for finding in findings if finding.problem):
        told = f": {escape(sources[part])}" if part in sources else ""
        console.print(f"[bold]{part}[/]{told}")
        problems = dict.fromkeys(finding.problem for finding in findings if finding.part == part and finding.problem)
        lines: Iterable[str] = [
            *problems,
            *(line for one in addresses.get(part, ()) for line in one.lines(fetch_command)),
        ]
        for line in lines:
            console.print(f"  {printable(line)}", markup=False)


def _mark(finding: Finding) -> str:
    if finding.problem is None:
        return "[green]ok[/]"
    if finding.problem == UNCHECKED:
        return "[yellow]not checked[/]"
    return "[yellow]missing, not needed to start[/]" if finding.optional else "[red]missing or wrong[/]"


def verdict(findings: Sequence[Finding], inputs: str) -> str:
    """One line that says what the data can train.

    Raises:
        VSEError: if the data cannot train anything, or not with these inputs.
    """
    lacking: dict[str, list[str]] = {}
    for finding in findings:
        if finding.problem and not finding.optional:
            lacking.setdefault(finding.part, []).append(finding.split)
    told = {
        part: part if set(splits) == {RUN} else f"{part} of {', '.join(splits)}" for part, splits in lacking.items()
    }
    ready = [part for part in BACKBONES if part not in lacking]
    wanted = list(BACKBONES) if inputs == "any" else [inputs]
    missing = [line for part, line in told.items() if part not in BACKBONES]
    if not missing and not set(wanted) & set(ready):
        missing = [" or ".join(told[part] for part in wanted)]
    if missing:
        raise VSEError(f"missing or wrong for training: {missing[0]}")
    line = f"ready to train {' and '.join(BACKBONES[part] for part in ready)}"
    return line + "".join(f"; {BACKBONES[part]} lack {told[part]}" for part in BACKBONES if part in told)
