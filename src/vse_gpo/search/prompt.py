"""A prompt: one line after the other, with the line editing and the history of the terminal."""

import cmd
import sys
from collections.abc import Callable

from vse_gpo.errors import VSEError, printable


class Prompt(cmd.Cmd):
    """Hands on every line that is typed, until an empty one or the end of the input.

    Args:
        answer: prints what a line asks for; its error is printed, and the next line is asked for.
    """

    intro = "Type what the image shows, or image=FILE; an empty line ends."
    prompt = "> "

    def __init__(self, answer: Callable[[str], None]) -> None:
        super().__init__()
        self.answer = answer
        self.use_rawinput = sys.stdin.isatty()  # Cmd then loads readline

    def onecmd(self, line: str) -> bool:
        """Answer a line; true if it is the last one."""
        if line in ("", "EOF") or not line.strip():  # Cmd calls the end of the input so
            return True
        try:
            self.answer(line)
        except VSEError as error:
            sys.stderr.write(f"error: {printable(str(error))}\n")
        return False

    def completenames(self, *_: object) -> list[str]:
        """Nothing: the commands that Cmd would complete are none here."""
        return []
