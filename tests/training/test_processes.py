"""A command that another one waits for."""

import subprocess
import sys

import pytest

from vse_gpo.errors import VSEError
from vse_gpo.training.processes import lightning_starts_processes, wait_for


def test_a_command_that_fails_is_an_error_and_one_that_succeeds_none():
    wait_for(["true"])
    with pytest.raises(VSEError, match="ended with status 3, see above: sh -c exit 3"):
        wait_for(["sh", "-c", "exit 3"])


def test_sigterm_goes_on_to_the_command_whose_status_is_handed_back():
    stopped = "import os, signal, sys, time; signal.signal(15, lambda *_: sys.exit(7)); os.kill(os.getppid(), 15)"
    with pytest.raises(SystemExit) as exit:
        wait_for([sys.executable, "-c", f"{stopped}; time.sleep(60)"])
    assert exit.value.code == 7


PARENT = """
import subprocess, sys, time
child = "import time; from vse_gpo.training.processes import end_with_parent; end_with_parent(); print(1, flush=True)"
child = subprocess.Popen([sys.executable, "-c", child + "; time.sleep(60)"])
time.sleep(60)
"""


def test_a_process_ends_with_its_killed_parent():
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "1\n"
        parent.kill()
        assert parent.stdout.read() == ""  # which ends when the child does


@pytest.mark.parametrize(
    ("devices", "environment", "starts"),
    [
        (1, {}, False),
        (2, {}, True),
        ("auto", {}, True),
        (2, {"TORCHELASTIC_RUN_ID": "x"}, False),
        (2, {"SLURM_NTASKS": "2", "SLURM_STEP_ID": "0"}, False),
        (2, {"SLURM_NTASKS": "2"}, True),  # a batch script, outside srun
        (2, {"SLURM_NTASKS": "1"}, True),
    ],
)
def test_who_starts_the_processes(monkeypatch, devices, environment, starts):
    for name in ("TORCHELASTIC_RUN_ID", "SLURM_NTASKS", "SLURM_STEP_ID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert lightning_starts_processes(devices) == starts
