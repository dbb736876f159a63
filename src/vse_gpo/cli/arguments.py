"""Typed arguments → overrides that Hydra parses, and words that it must not parse.

Every command takes ``name=value``. Some take words as well, such as ``vse-search "a dog"``; a word is the value of a
setting, taken as it was typed: Hydra would interpret quotes, commas, braces and ``${}`` in it.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from omegaconf import OmegaConf

from vse_gpo.cli.folders import config_folder
from vse_gpo.errors import VSEError, did_you_mean

SWITCHES = {  # Hydra's flags: https://hydra.cc/docs/advanced/hydra-command-line-flags
    *("--help", "-h", "--hydra-help", "--version", "--resolve", "-r", "--run", "-m", "--multirun"),
    *("--shell-completion", "-sc"),
}
VALUED = {  # flags that take a value
    *("--cfg", "-c", "--package", "-p", "--config-path", "-cp", "--config-name", "-cn", "--config-dir", "-cd"),
    *("--info", "-i", "--experimental-rerun"),
}
MANY = "..."  # ends the name of a setting that takes any number of words
FLAG = re.compile(r"--?[A-Za-z][\w-]*(=|$)")  # but "-5 degrees" is a word
OVERRIDE = re.compile(r"[+~]{0,2}([\w@/.-]+)=")
DELETION = re.compile(r"~[\w@.-]+(/[\w@.-]+)*")  # ~callbacks.examples, but not ~/photos


class Typed(NamedTuple):
    """A parsed command line."""

    overrides: list[str]  # for Hydra, its flags included
    words: dict[str, Any]  # setting → what was typed for it, never parsed


def read_arguments(
    arguments: Sequence[str],
    *,
    config_name: str,
    words: Sequence[str] = (),
    verbatim: Sequence[str] = (),
    bare: str | None = None,
) -> Typed:
    """Parse a command line.

    Args:
        arguments: what was typed, without the command.
        config_name: root config of the command.
        words: settings that words are for, in order; the last may end with ``...`` and takes all further words as a
            list. Settings that take one word are never parsed, however they are set.
        verbatim: further settings that are never parsed.
        bare: setting that a word was probably meant for, if the command takes no words.

    Raises:
        VSEError: if there is a flag that Hydra does not have, or one word too many; says what to type instead.
    """
    unparsed = [*verbatim, *(name for name in words if not name.endswith(MANY))]
    own, _, after = _split(list(arguments), "--")
    overrides: list[str] = []
    typed: list[str] = []
    given: dict[str, Any] = {}
    waiting = iter(own)
    for argument in waiting:
        setting = OVERRIDE.match(argument)
        if argument in SWITCHES:
            overrides.append(argument)
        elif argument.partition("=")[0] in VALUED:
            overrides += (
                [argument] if "=" in argument else [argument, *(value for value in [next(waiting, None)] if value)]
            )
        elif FLAG.match(argument):
            raise VSEError(_no_such_flag(argument, next(waiting, None)))
        elif DELETION.fullmatch(argument) and (not words or _is_setting(argument.removeprefix("~"), config_name)):
            overrides.append(argument)
        elif setting and (not words or _is_setting(setting[1], config_name)):
            name, _, value = argument.partition("=")
            if name in unparsed:
                _give(given, name, value)
            else:
                overrides.append(expand_home(argument))
        else:
            typed.append(argument)
    _place(given, [*typed, *after], words=words, bare=bare)
    return Typed(overrides, given)


def _split(arguments: list[str], mark: str) -> tuple[list[str], str, list[str]]:
    if mark not in arguments:
        return arguments, "", []
    place = arguments.index(mark)
    return arguments[:place], mark, arguments[place + 1 :]


def _place(given: dict[str, Any], typed: Sequence[str], *, words: Sequence[str], bare: str | None) -> None:
    """Assign each word to its setting."""
    free = [name for name in words if name not in given]
    for word in typed:
        if free and free[0].endswith(MANY):
            given.setdefault(free[0].removesuffix(MANY), []).append(word)
        elif free:
            given[free.pop(0)] = word
        elif words:
            expected = f"expected {' and '.join(words)}"
            raise VSEError(f"{word!r}: one word too many, {expected}; quote a text of many words")
        else:
            meant = _option(word) or (f"{bare}={quoted(word)}" if bare else None)
            raise VSEError(f"{word}: cannot be read as name=value" + (f"; type {for_shell(meant)}" if meant else ""))


def _give(given: dict[str, Any], name: str, value: str) -> None:
    if name in given:
        raise VSEError(f"{name} is set twice, to {given[name]!r} and {value!r}, expected one")
    given[name] = value


def _is_setting(name: str, config_name: str) -> bool:
    """Whether a name is one of the command's, though it may be misspelt; ``e=mc2`` is a word."""
    known = ["hydra", *_top_names(config_name)]
    first = re.split(r"[./@]", name)[0]
    return first in known or did_you_mean(first, known) != ""


def _top_names(config_name: str) -> list[str]:
    return [str(name) for name in OmegaConf.load(Path(config_folder()) / f"{config_name}.yaml")]


def _option(word: str) -> str | None:
    """``experiment=coco_wsl_grid`` for the name of an experiment."""
    return f"experiment={word}" if (Path(config_folder()) / "experiment" / f"{word}.yaml").is_file() else None


def _no_such_flag(flag: str, following: str | None) -> str:
    name, _, value = flag.lstrip("-").partition("=")
    following = following if following is not None and not following.startswith("-") and "=" not in following else "…"
    setting = f"{name.replace('-', '_')}={quoted(value or following)}"
    return f"{flag}: no such flag, settings are name=value; type {for_shell(setting)}"


# quoting


def expand_home(override: str) -> str:
    """The override with ``~/`` expanded in every path; Hydra cannot parse it."""
    name, _, value = override.partition("=")
    home = str(Path.home())
    return f"{name}=" + re.sub(r"(^|[\[,])(['\"]?)~(?=/|$)", lambda found: found[1] + found[2] + home, value)


PLAIN = re.compile(r"[\w./:@%+*$?|\\-]*", re.ASCII)


def quoted(value: str) -> str:
    """The value as Hydra parses it, in quotes if necessary."""
    if value == "…" or PLAIN.fullmatch(value):
        return value
    if "'" in value and '"' not in value:
        return '"' + re.sub(r"(\\+)$", r"\1\1", value) + '"'
    return "'" + re.sub(r"(\\*)('|$)", lambda found: 2 * found[1] + ("\\'" if found[2] else ""), value) + "'"


def for_shell(argument: str) -> str:
    """The argument as a shell takes it, in quotes if necessary."""
    if re.fullmatch(r"[\w./:@%+=,…\[\]-]*", argument):
        return argument
    return '"' + re.sub(r'([$`"\\])', r"\\\1", argument) + '"'
