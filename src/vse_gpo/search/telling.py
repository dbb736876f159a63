"""What a search prints: a table or JSON for one query, or for as many as come one a line.

An answer is what ``json=true`` prints: ``query``, ``fits`` (null if it is not known), ``reason`` (why nothing fits),
``hits`` with ``rank``, ``score`` and ``file``, and ``remarks`` on the query.
"""

import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from rich import get_console
from rich.table import Table
from rich.text import Text

from vse_gpo.errors import VSEError, printable
from vse_gpo.search.parts import Part, parts_of_line
from vse_gpo.search.prompt import Prompt

Answer = Mapping[str, Any]
Ask = Callable[[Sequence[Part]], Answer]  # raises VSEError for a query that cannot be answered


def tell_answers(
    ask: Ask, parts: Sequence[Part], *, interactive: bool, stdin: bool, nearest: bool, as_json: bool
) -> None:
    """Ask for one query, or for what is typed or written, and print the answers.

    Args:
        ask: answers a query.
        parts: of the one query.
        interactive: ask for queries, one after the other, in its place.
        stdin: read queries from the standard input, one a line, in its place; print a line of JSON for each.
        nearest: print the nearest images where nothing fits, too.
        as_json: print only JSON.

    Raises:
        VSEError: if a query cannot be answered.
    """
    if stdin:
        answer_lines(ask, sys.stdin)
    elif interactive:
        Prompt(lambda line: tell(ask(parts_of_line(line)), nearest=nearest, as_json=as_json)).cmdloop()
    else:
        tell(ask(parts), nearest=nearest, as_json=as_json)


def answer_lines(ask: Ask, lines: Iterable[str]) -> None:
    """Print a line of JSON for every line, at once; a line that cannot be answered gets an error instead.

    Args:
        ask: answers a query.
        lines: see ``parts_of_line``; empty ones are left out.

    Raises:
        VSEError: after the last line, if one could not be answered.
    """
    count = failed = 0
    for line in lines:
        if not line.strip():
            continue
        count += 1
        try:
            answer = ask(parts_of_line(line))
        except VSEError as error:
            failed += 1
            answer = {"query": printable(line.strip()), "error": str(error)}
        print(json.dumps(answer), flush=True)
    if failed:
        raise VSEError(f"{failed} of {count} queries could not be answered; see the errors among the answers")


def tell(answer: Answer, *, nearest: bool, as_json: bool) -> None:
    """Print an answer, its remarks as warnings.

    Args:
        answer: to one query.
        nearest: print the nearest images where nothing fits, too.
        as_json: print only JSON.
    """
    for remark in answer["remarks"]:
        sys.stderr.write(f"warning: {printable(remark)}\n")
    if as_json:
        print(json.dumps(answer))
    elif answer["fits"] is False and not (nearest and answer["hits"]):
        hint = "; nearest=true shows the nearest images" if answer["hits"] else ""
        print(f"nothing fits: {printable(answer['reason'])}{hint}")
    else:
        if answer["fits"] is False:
            print(f"nothing fits: {printable(answer['reason'])}; the nearest images are:")
        print_table(answer["query"], answer["hits"])


def print_table(title: str, hits: Sequence[Mapping[str, Any]]) -> None:
    """Print rank, score and file of every found image.

    Args:
        title: stands above, as wide as the terminal.
        hits: in order.
    """
    table = Table()
    table.add_column("rank", justify="right")
    table.add_column("score", justify="right")
    table.add_column("file", overflow="fold")
    for hit in hits:
        table.add_row(str(hit["rank"]), f"{hit['score']:.3f}", Text(printable(hit["file"])))
    get_console().print(Text(printable(title), style="italic"), table, sep="\n")
