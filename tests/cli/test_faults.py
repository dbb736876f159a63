"""What the machine does to a command, in one line each; what is a fault of the program keeps its traceback."""

import errno
import os

import pytest

from vse_gpo.cli.faults import DISK, fault_line
from vse_gpo.cli.messages import user_message


@pytest.mark.parametrize("number", DISK)
def test_what_the_disk_refuses_names_the_place_and_says_what_to_do(number):
    line = fault_line(OSError(number, os.strerror(number), "/some/place"))
    assert line == f"/some/place: {os.strerror(number).lower()}; {DISK[number]}"
    assert fault_line(OSError(number, os.strerror(number))).startswith(os.strerror(number).lower())


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. "), r"process was killed \(Killed\); if"),
        (RuntimeError("DataLoader worker (pid(s) 7, 8) exited unexpectedly"), "process was killed; if the memory"),
        (RuntimeError("DataLoader timed out after 600 seconds"), "gave no batch for 600 s"),
        (RuntimeError("[gloo/pair.cc:547] Connection closed by peer [::1]:2"), "process of this run was lost"),
    ],
)
def test_processes_that_are_lost_are_told(error, line):
    with pytest.raises(RuntimeError, match=line):
        raise RuntimeError(user_message(error, None))


@pytest.mark.parametrize("error", [ValueError("x"), KeyError("x"), FileNotFoundError(errno.ENOENT, "x"), EOFError()])
def test_a_fault_of_the_program_is_none_of_the_machine(error):
    assert fault_line(error) is None
