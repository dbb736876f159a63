"""The processes of one run: who starts them, and what they agree on before Lightning connects them."""

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from vse_gpo.errors import VSEError

PR_SET_PDEATHSIG = 1  # linux/prctl.h


def run_id(now: str) -> str:
    """An id that all processes of a run agree on, on any machine.

    It is the time; if torchrun started several processes, the time of the first one. If SLURM did, it is the job's
    step: a requeued job finds its folder, and Lightning the checkpoint that the job left there.

    Args:
        now: the time in this process.
    """
    if "TORCHELASTIC_RUN_ID" in os.environ:  # inside a SLURM job too
        from torch.distributed.rendezvous import rendezvous  # noqa: PLC0415, help does without torch

        store, rank, _ = next(rendezvous("env://"))
        if rank == 0:
            store.set("vse_gpo/run_id", now)
        first: bytes = store.get("vse_gpo/run_id")  # waits for it
        return first.decode()
    if _slurm_starts_processes():
        return f"slurm_{os.environ['SLURM_JOB_ID']}.{os.environ['SLURM_STEP_ID']}"
    return now


def lightning_starts_processes(devices: Any) -> bool:
    """Whether Lightning starts a run's other processes; torchrun and SLURM have started theirs before.

    Args:
        devices: as Lightning's Trainer takes them.
    """
    return devices not in (1, "1") and "TORCHELASTIC_RUN_ID" not in os.environ and not _slurm_starts_processes()


def end_with_parent() -> None:
    """Have the system kill this process when its parent ends, which cannot end it any more if it was killed itself.

    Other processes of a run may otherwise wait for the first one for half an hour, and hold their devices.
    """
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def wait_for(command: Sequence[str]) -> None:
    """Run a command to its end, with this process's output; SIGTERM is passed on to it.

    Raises:
        VSEError: if it fails.
        SystemExit: with the command's status, if it was told to stop.
    """
    with subprocess.Popen(command) as process:  # noqa: S603
        asked = []

        def hand_on(number: int, _frame: object) -> None:
            asked.append(number)
            process.send_signal(number)

        before = signal.signal(signal.SIGTERM, hand_on)
        try:
            status = process.wait()
        finally:
            signal.signal(signal.SIGTERM, before)
    if asked:
        sys.exit(status)
    if status:
        raise VSEError(f"ended with status {status}, see above: {' '.join(command)}")


def _slurm_starts_processes() -> bool:
    """Whether this is a step of several tasks; a batch script outside any step knows their number as well."""
    return int(os.environ.get("SLURM_NTASKS", "1")) > 1 and "SLURM_STEP_ID" in os.environ
