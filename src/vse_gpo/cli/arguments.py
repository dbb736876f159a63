"""Typed arguments → overrides that Hydra parses, and words that it must not parse.

Every command takes ``name=value``. Some take words as well, such as ``vse-search "a dog"``; a word is the value of a
setting, taken as it was typed: Hydra would interpret quotes, commas, braces and ``${}`` in it.
"""

import re
import shlex
from collections.abc import Collection, Sequence
from itertools import islice
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
FLAG = re.compile(r"--?[A-Za-z][\w.-]*(=|$)")  # but "-5 degrees" is a word
OVERRIDE = re.compile(r"[+~]{0,2}([\w@/.-]+)=")
NUMBERS = re.compile(r"\{\d+\.\.\d+\}")
DELETION = re.compile(r"~([\w@.-]+(?:/[\w@.-]+)*)")  # ~callbacks.examples, but not ~/photos


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
    root = _Root(config_name)
    unparsed = [*verbatim, *(name for name in words if not name.endswith(MANY))]
    overrides: list[str] = []
    typed: list[str] = []
    given: dict[str, Any] = {}
    waiting = iter(arguments)
    for argument in waiting:
        if argument == "--":
            typed += waiting
        elif argument in SWITCHES:
            overrides.append(argument)
        elif argument.partition("=")[0] in VALUED:
            overrides += [argument] if "=" in argument else [argument, *islice(waiting, 1)]
        elif FLAG.match(argument):
            raise VSEError(_no_such_flag(argument, next(waiting, None), root))
        elif not root.sets(argument, unknown_too=not words):
            typed.append(argument)
        elif (name := argument.partition("=")[0]) in unparsed:
            _give(given, name, argument.removeprefix(f"{name}="))
        else:
            overrides.append(expand_home(keep_braces(argument)))
    if typed and not words:
        raise VSEError(_no_such_word(typed[0], bare, root))
    _place(given, typed, words, {override.partition("=")[0] for override in overrides})
    return Typed(overrides, given)


class _Root:
    """The names in a command's root config."""

    def __init__(self, config_name: str) -> None:
        self.folder = Path(config_folder())
        settings = self._settings(config_name)
        chosen = [str(name) for entry in settings.pop("defaults") if isinstance(entry, dict) for name in entry]
        self.groups = [name for name in chosen if "@" not in name and not name.startswith("override ")]
        self.names = [*self.groups, *settings, *(name.partition("@")[2] for name in chosen if "@" in name), "hydra"]

    def _settings(self, name: str) -> dict[str, Any]:
        """Settings of a root config, with those of the root configs that it begins with."""
        own: Any = OmegaConf.to_container(OmegaConf.load(self.folder / f"{name}.yaml"))
        entries = own.get("defaults", [])
        begins = [self._settings(entry) for entry in entries if isinstance(entry, str) and entry != "_self_"]
        merged = {key: value for settings in [*begins, own] for key, value in settings.items()}
        return merged | {"defaults": [one for settings in begins for one in settings["defaults"]] + entries}

    def sets(self, argument: str, *, unknown_too: bool) -> bool:
        """Whether an argument is an override or a deletion: ``e=mc2`` and ``runs/lr=1/best.ckpt`` are none.

        Args:
            argument: as typed.
            unknown_too: also with a name that the command does not have, unless it looks like a path.
        """
        found = OVERRIDE.match(argument) or DELETION.fullmatch(argument)
        if found is None:
            return False
        first = re.split(r"[./@]", found[1])[0]
        is_known = first in self.names or did_you_mean(first, self.names) != ""
        return is_known or (unknown_too and ("/" not in found[1] or argument[0] in "+~"))

    def option(self, word: str) -> str | None:
        """``experiment=coco_wsl_grid`` for the name of an experiment, and so for each group."""
        for group in sorted(self.groups, key=lambda name: name != "experiment"):
            if word in {path.stem for path in (self.folder / group).glob("*.yaml")}:
                return f"{group}={word}"
        return None


def _place(given: dict[str, Any], typed: Sequence[str], words: Sequence[str], overridden: Collection[str]) -> None:
    """Assign each word to its setting."""
    free = [name for name in words if name not in given]
    for word in typed:
        if free and free[0].endswith(MANY):
            name = free[0].removesuffix(MANY)
            if name in overridden:
                raise VSEError(f"{name} is set twice, by {name}= and by {word!r}, expected one")
            given.setdefault(name, []).append(word)
        elif free:
            given[free.pop(0)] = word
        else:
            expected = f"expected {' and '.join(words)}"
            raise VSEError(f"{word!r}: one word too many, {expected}; quote a text of many words")


def _give(given: dict[str, Any], name: str, value: str) -> None:
    if name in given:
        raise VSEError(f"{name} is set twice, to {given[name]!r} and {value!r}, expected one")
    given[name] = value


def _no_such_word(word: str, bare: str | None, root: _Root) -> str:
    if not word:
        return "an empty argument, expected name=value; is a variable of the shell not set?"
    meant = root.option(word) or (f"{bare}={quoted(word)}" if bare else None)
    if word in root.names and not Path(word).exists():
        meant = f"{word}=…"
    return f"{word}: cannot be read as name=value" + (f"; type {for_shell(meant)}" if meant else "")


def _no_such_flag(flag: str, following: str | None, root: _Root) -> str:
    name, equals, value = flag.lstrip("-").partition("=")
    if not equals and following is not None and not following.startswith("-"):
        value = "" if root.sets(following, unknown_too=False) else following
    setting = f"{name.replace('-', '_')}={quoted(value) or '…'}"
    return f"{flag}: no such flag, settings are name=value; type {for_shell(setting)}"


# quoting


HOME = re.compile(  # a quoted text, whole, or the beginning of a value or of a list's item
    r"""(?P<quote>['"])(?P<home>~(?=/|(?P=quote)))?(?:\\.|(?!(?P=quote)).)*(?P=quote)|(?P<bare>^|[\[,]\s*)~(?=[/,\]]|$)""",
    re.DOTALL,
)


def expand_home(override: str) -> str:
    """The override with ``~/`` expanded where a path begins, also in a list; Hydra cannot parse it."""
    name, equals, value = override.partition("=")

    def expanded(found: re.Match[str]) -> str:
        begins = found["home"] is not None or found["bare"] is not None
        return found[0].replace("~", str(Path.home()), 1) if begins else found[0]

    return name + equals + HOME.sub(expanded, value) if equals else name


def keep_braces(override: str) -> str:
    """The override with ``{000..099}`` in quotes: it stands for many names, and Hydra would look for a mapping."""
    name, equals, value = override.partition("=")
    return f"{name}={quoted(value)}" if equals and NUMBERS.search(value) and value[0] not in "[{'\"" else override


PLAIN = re.compile(r"(~/)?[\w./:@%+*$?|-]*", re.ASCII)


def quoted(value: str) -> str:
    """The value as Hydra parses it, in quotes if necessary; ``${}`` in it still refers to another setting."""
    if PLAIN.fullmatch(value):
        return value
    if "'" in value and '"' not in value:
        return '"' + re.sub(r"(\\+)\Z", r"\1\1", value) + '"'
    return "'" + re.sub(r"(\\*)('|\Z)", lambda found: 2 * found[1] + ("\\'" if found[2] else ""), value) + "'"


def for_shell(argument: str) -> str:
    """The argument as a shell takes it, in quotes if necessary."""
    if re.fullmatch(r"[\w./:@%+=,…\[\]~-]*", argument) and argument[:1] != "~":
        return argument
    if "!" in argument:  # in double quotes an interactive shell looks it up in its history
        return shlex.quote(argument)
    return '"' + re.sub(r'([$`"\\])', r"\\\1", argument) + '"'
