"""What tests of the command line share."""

import sys
from collections.abc import Callable

import pytest


@pytest.fixture
def command_line(monkeypatch, tmp_path) -> Callable[..., None]:
    """Sets what was typed, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)

    def typed(*arguments: str) -> None:
        monkeypatch.setattr(sys, "argv", ["vse-train", *arguments])

    return typed


@pytest.fixture
def error_of(command_line, capfd, tmp_path) -> Callable[..., str]:
    """Gives the error of a command: exit status 1, one line on stderr, nothing on stdout, nothing written."""

    def of(main: Callable[[], None], *arguments: str) -> str:
        command_line(*arguments)
        with pytest.raises(SystemExit) as exit:
            main()
        output = capfd.readouterr()
        assert (exit.value.code, output.out) == (1, "")
        assert output.err.startswith("error: ")
        assert output.err.count("\n") == 1
        assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
        return output.err.removeprefix("error: ").removesuffix("\n")

    return of
