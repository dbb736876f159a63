"""python -m vse_gpo.search "a dog on the beach" index=INDEX : the pictures that fit a text or a picture best."""

import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from hydra._internal.utils import get_args_parser
from omegaconf import DictConfig, OmegaConf

from vse_gpo.commands import config_folder, did_you_mean, errors_as_lines, run_command
from vse_gpo.errors import VSEError
from vse_gpo.search.texts import check_unicode, embed_text

if TYPE_CHECKING:
    from torch import Tensor

    from vse_gpo.model import VSE


class Asked(NamedTuple):
    """What is looked for, as it was typed: Hydra would read quotes, commas, braces and ${} in it."""

    query: str | None
    image: str | None


def main() -> None:
    """The command."""
    with errors_as_lines():
        asked, sys.argv[1:] = read_arguments(sys.argv[1:])

    def job(config: DictConfig) -> None:
        search(config, asked)

    run_command(job, "search")


def read_arguments(arguments: Sequence[str]) -> tuple[Asked, list[str]]:
    """What is asked, and the arguments that are left for Hydra.

    The query is the argument that is neither a flag nor a setting, or ``query=…``, or what follows ``--``.

    Raises:
        VSEError: if there is more than one.
    """
    arguments = list(arguments)
    own, after = arguments, []
    if "--" in arguments:
        own, after = arguments[: arguments.index("--")], arguments[arguments.index("--") + 1 :]
    words = [word for word in get_args_parser().parse_known_args(own)[0].overrides if not is_setting(word)]
    given = {
        name: [argument.removeprefix(f"{name}=") for argument in own if argument.startswith(f"{name}=")]
        for name in ("query", "image")
    }
    queries = [*words, *after, *given["query"]]
    for found in (queries, given["image"], [*queries, *given["image"]]):
        if len(found) > 1:
            raise VSEError(
                f"{len(found)} queries, {found[0]!r} and {found[1]!r}, expected one; quote one of many words"
            )
    left = [argument for argument in own if argument not in words and not argument.startswith(("query=", "image="))]
    return Asked(next(iter(queries), None), next(iter(given["image"]), None)), left


def is_setting(argument: str) -> bool:
    """Whether an argument sets a value, though it may misspell the name; ``e=mc2`` is a query."""
    match = re.match(r"[+~]{0,2}(\w+)[\w./@-]*=", argument)
    known = ["hydra", *(str(name) for name in OmegaConf.load(Path(config_folder()) / "search.yaml"))]
    return match is not None and (match[1] in known or did_you_mean(match[1], known) != "")


def search(config: DictConfig, asked: Asked) -> None:
    """Print the pictures that fit best.

    Raises:
        VSEError: if nothing is asked, or the index or its model is not there.
    """
    check_asked(asked)

    from vse_gpo.search.index import Index

    index = Index.load(config.index)
    model = index.open_model(config.model, tokenizer=config.tokenizer, vocabulary=config.vocabulary)
    [scores], [files] = index.search(embed_query(model, asked), config.top)
    if config.json:
        hits = zip(scores, files, strict=True)
        print(json.dumps([{"rank": rank, "score": hit[0], "file": hit[1]} for rank, hit in enumerate(hits, 1)]))
    else:
        print_table(asked, scores, files)


def check_asked(asked: Asked) -> None:
    """Refuse what no encoder can read.

    Raises:
        VSEError: if there is no query, or one that is not UTF-8.
    """
    if asked.image is None and not (asked.query or "").strip():
        raise VSEError('nothing to look for; add "a text" or image=FILE')
    check_unicode(asked.query or "")


def embed_query(model: "VSE", asked: Asked) -> "Tensor":
    """The unit embedding (1, E) of what is asked; a query that the tokeniser cuts is told by one line."""
    from vse_gpo.search.pictures import open_picture

    if asked.image is not None:
        return model.encode_images([open_picture(Path(asked.image).expanduser())])
    embedding, remarks = embed_text(model, asked.query or "")
    for remark in remarks:
        sys.stderr.write(f"warning: {remark}\n")
    return embedding


def print_table(asked: Asked, scores: Sequence[float], files: Sequence[str]) -> None:
    """Rank, score and file of every picture found."""
    from rich import get_console
    from rich.table import Table
    from rich.text import Text

    from vse_gpo.search.index import printable

    table = Table(title=Text(printable(asked.query or f"like {asked.image}")), title_justify="left")
    table.add_column("rank", justify="right")
    table.add_column("score", justify="right")
    table.add_column("file", overflow="fold")
    for rank, (score, file) in enumerate(zip(scores, files, strict=True), 1):
        table.add_row(str(rank), f"{score:.3f}", Text(printable(file)))
    get_console().print(table)


if __name__ == "__main__":
    main()
