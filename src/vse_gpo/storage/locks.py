"""One process at a time in a folder that a command fills."""

import fcntl
import os
import socket
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from vse_gpo.errors import VSEError, first_line

LOCK = ".lock"


@contextmanager
def only_process_in(folder: Path) -> Iterator[None]:
    """Hold a folder for this process: any other one that wants it is refused.

    The lock vanishes with the process, however it ends; the processes that it starts do not have it.

    Args:
        folder: made if missing; holds a file with the lock meanwhile.

    Raises:
        VSEError: if another process holds it, or it cannot be written.
    """
    path, new = folder / LOCK, not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = _locked_file(path)
    except BlockingIOError as error:
        raise VSEError(
            f"{folder}: {_holder(path)} is at work in it; wait for its end, or name another folder"
        ) from error
    except OSError as error:
        raise VSEError(f"{folder}: cannot be written ({first_line(error)}); name another folder") from error
    try:
        yield
    finally:
        with suppress(OSError):
            path.unlink()  # while it is held, so that it is no other one's
            if new:
                folder.rmdir()  # if nothing came into it
        os.close(descriptor)


def _locked_file(path: Path) -> int:
    """Open and lock the file, and write into it who holds it.

    Forked loader processes, which may outlive this one by seconds, inherit locks of ``flock``, but not record locks.

    Raises:
        BlockingIOError: if another process holds it.
    """
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            _lock(descriptor, path)
            if _names(path, descriptor):
                with suppress(OSError):  # of a full disk
                    os.truncate(descriptor, 0)
                    os.write(descriptor, f"process {os.getpid()} on {socket.gethostname()}".encode())
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # its last holder has removed it meanwhile


def _lock(descriptor: int, path: Path) -> None:
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError as error:  # a file system without locks
        warnings.warn(f"{path.parent}: not locked ({first_line(error)}); use it by one process at a time", stacklevel=2)


def _holder(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8") or "another process"
    except OSError:  # it has just ended
        return "another process"


def _names(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
