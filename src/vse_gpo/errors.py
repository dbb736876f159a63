"""The one exception whose message is meant for the user of a command."""


class VSEError(Exception):
    """One line: what was found, what was expected, what to do. Commands print it without a traceback."""
