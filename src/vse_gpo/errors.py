"""The exception whose message is meant for the user, and helpers that compose its line."""

import difflib
from collections.abc import Iterable


class VSEError(ValueError):
    """One line: what was found, what was expected, what to do. Commands print it without a traceback."""


def first_line(error: Exception) -> str:
    """First line of the message, or the exception's class name."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def printable(text: str) -> str:
    """Text from a file, a hub or a user as it is safe to show: characters that steer a terminal or turn the text around
    them are written as escapes."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)


def described(value: object) -> str:
    """A value with its type, as a short part of a line."""
    return f"{' '.join(repr(value).split())[:60]} ({type(value).__name__})"


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A question that suggests the closest known name, or names with the same last part; empty if there are none."""
    known = list(known)
    nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.75)
    nearest = nearest or [other for other in known if other.rpartition(".")[2] == name.rpartition(".")[2]]
    return f" (did you mean {' or '.join(nearest)}?)" if nearest else ""
