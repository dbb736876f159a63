"""How a line for the user is put together."""

import pytest

from vse_gpo.errors import VSEError, did_you_mean, first_line, printable


def test_it_is_a_value_error():
    assert issubclass(VSEError, ValueError)


@pytest.mark.parametrize(
    ("error", "line"),
    [(ValueError("one\ntwo"), "one"), (KeyError(), "KeyError"), (OSError("\n \n"), "OSError")],
)
def test_a_message_of_many_lines_gives_its_first_and_an_empty_one_the_errors_class(error, line):
    assert first_line(error) == line


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\x1b[31m\n\udcff ü.png", "a\\x1b[31m\\n\\udcff ü.png"),
        ("cat\u202egpj.exe\u2066\u200f", "cat\\u202egpj.exe\\u2066\\u200f"),
        ("\x9b2J\x07", "\\x9b2J\\x07"),
        ("[red]two[/red] 犬 [0]", "[red]two[/red] 犬 [0]"),
    ],
)
def test_what_is_shown_steers_no_terminal_and_turns_no_text(text, shown):
    assert printable(text) == shown


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("optimzer.lr", " (did you mean optimizer.lr?)"),
        ("k", " (did you mean image_pooling.k or text_pooling.k?)"),
        ("xyzzy", ""),
    ],
)
def test_the_nearest_name_is_meant_or_one_that_ends_alike_in_another_group(name, hint):
    assert did_you_mean(name, ["optimizer.lr", "image_pooling.k", "text_pooling.k", "seed"]) == hint
