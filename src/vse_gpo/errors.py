"""The one exception whose message is meant for the user of a command."""


class VSEError(Exception):
    """One line: what was found, what was expected, what to do. Commands print it without a traceback."""


def first_line(error: Exception) -> str:
    """Of an error's message, or its kind."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
