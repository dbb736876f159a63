"""What a search prints, line by line."""

import io
import json
import sys
from collections.abc import Sequence

import pytest

from vse_gpo.errors import VSEError
from vse_gpo.search.parts import Part
from vse_gpo.search.telling import Answer, answer_lines, print_table, tell

HIT = {"rank": 1, "score": 0.5, "file": "a\x1b[2Jb.png"}


def ask(parts: Sequence[Part]) -> Answer:
    if parts[0].is_image:
        raise VSEError(f"{parts[0].content}: no such file")
    return {"query": parts[0].content, "fits": True, "reason": "", "hits": [HIT], "remarks": ["it is cut"]}


def test_every_line_gets_a_line_of_json_at_once(monkeypatch):
    class Out(io.StringIO):
        flushed = 0

        def flush(self) -> None:
            self.flushed += 1

    lines = ["a red circle\n", "\n", "image=no\x1b.png\n", "a star"]
    monkeypatch.setattr(sys, "stdout", out := Out())
    with pytest.raises(VSEError, match="1 of 3 queries could not be answered; see the errors among the answers"):
        answer_lines(ask, lines)
    answers = [json.loads(line) for line in out.getvalue().splitlines()]
    assert out.flushed == len(answers) == 3
    assert answers[0] == ask([Part("a red circle")])
    assert answers[1] == {"query": "image=no\\x1b.png", "error": "no\x1b.png: no such file"}
    answer_lines(ask, ["a star"])


@pytest.mark.parametrize(
    ("fits", "nearest", "expected"),
    [
        (True, False, "rank"),
        (None, False, "rank"),
        (False, False, "nothing fits: it is blue; nearest=true shows the nearest images"),
        (False, True, "nothing fits: it is blue; the nearest images are:"),
    ],
)
def test_where_nothing_fits_it_says_so(fits, nearest, expected, capsys):
    tell({**ask([Part("a star")]), "fits": fits, "reason": "it is blue"}, nearest=nearest, as_json=False)
    printed = capsys.readouterr()
    assert expected in printed.out
    assert ("rank" in printed.out) == (fits is not False or nearest)
    assert printed.err == "warning: it is cut\n"


def test_json_stands_alone_on_the_output(capsys):
    tell(ask([Part("a star")]), nearest=False, as_json=True)
    assert json.loads(capsys.readouterr().out) == ask([Part("a star")])


def test_control_characters_reach_no_terminal(capsys):
    print_table("\x1b[31mred", [HIT])
    printed = capsys.readouterr().out
    assert "\x1b" not in printed
    assert "a\\x1b[2Jb.png" in printed
