"""Another process that is at work in a folder."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

HOLDS = """
import os, sys, time
from pathlib import Path
from vse_gpo.storage.locks import only_process_in
with only_process_in(Path(sys.argv[1])):
    if os.fork() == 0:  # as a loader process, which lives on for a while
        time.sleep(60)
        os._exit(0)
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def holder(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the folder, with a child of its own; both are gone afterwards."""
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [sys.executable, "-c", HOLDS, folder], stdin=pipe, stdout=pipe, text=True, start_new_session=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            os.killpg(process.pid, signal.SIGKILL)
