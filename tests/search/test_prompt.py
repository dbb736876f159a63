"""A prompt whose lines come from a file, as without a terminal."""

import io
import sys

import pytest

from vse_gpo.errors import VSEError
from vse_gpo.search.prompt import Prompt


@pytest.mark.parametrize("end", ["", "\n", "  \n"])
def test_every_line_is_handed_on_until_an_empty_one_or_the_end(end, monkeypatch, capsys):
    typed = ["a dog", "help me", "?", "!ls", "image=a b.jpg", "EOFs"]
    monkeypatch.setattr(sys, "stdin", io.StringIO("".join(f"{line}\n" for line in typed) + end))
    answered = []

    def answer(line: str) -> None:
        answered.append(line)
        if line == "?":
            raise VSEError("no\x1b answer")

    prompt = Prompt(answer)
    prompt.cmdloop()
    assert answered == typed
    assert capsys.readouterr().err == "error: no\\x1b answer\n"
    assert prompt.completenames("a") == []
