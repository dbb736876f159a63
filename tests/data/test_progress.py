"""The progress bar: on stderr, with what an earlier start has finished."""

import pytest

from vse_gpo.data.progress import advance, progress_bar


def test_what_is_done_is_counted_and_stdout_stays_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar("images", total=7, done=2) as progress:
        advance(progress, 4)
        advance(progress)
        (task,) = progress.tasks
        assert (task.description, task.completed, task.finished) == ("images", 7, True)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "images" in shown.err
    assert "7/7" in shown.err


def test_brackets_in_a_name_are_shown_and_escapes_are_not_sent(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar("[red]a[/red]\x1b[2J", total=1) as progress:
        advance(progress)
    shown = capsys.readouterr().err
    assert "[red]a[/red]\\x1b[2J" in shown
    assert "\x1b[2J" not in shown


def test_an_error_in_the_work_ends_the_bar(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(KeyError), progress_bar("images", total=7) as progress:
        raise KeyError("lost")
    assert progress.live.is_started is False
