"""What a machine does to a command → lines for the user: full and read-only disks, processes that are killed."""

import errno
import re
import traceback

DISK = {  # errors of the operating system that are no fault of the program → what to do
    errno.EACCES: "give yourself the right to it, or name another place",
    errno.EPERM: "give yourself the right to it, or name another place",
    errno.EROFS: "name a place that can be written",
    errno.ENOSPC: "free some space, or name a place on another disk",
    errno.EDQUOT: "free some of your quota, or name a place on another disk",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.ENOTDIR: "a part of this path is a file; name another place",
    errno.EEXIST: "name another place",
    errno.EISDIR: "expected a file",
    errno.ELOOP: "links lead in a circle",
    errno.EIO: "the disk or the network failed; try again",
    errno.ESTALE: "the network folder has gone; try again",
    errno.EMFILE: "raise the limit of open files (ulimit -n 4096), or lower workers=",
}
LOST_PEER = (
    r"Connection (closed|reset) by (peer|remote)|remote process exited|Broken pipe|Socket Timeout|Watchdog caught"
)


def fault_line(error: BaseException) -> str | None:
    """The line about an error that the machine caused; None if it did not.

    Args:
        error: any error that stopped a command.
    """
    message = str(error)
    if found := re.search(r"DataLoader timed out after (\S+) seconds", message):
        return (
            f"the loader processes gave no batch for {float(found[1]):.0f} s; see whether the disk of the data "
            "answers, or set workers=0 to load without them"
        )
    if "DataLoader worker (pid" in message or _from_a_loader(error):
        signal = re.search(r"by signal: ([\w ]+)", message)
        return (
            f"a loader process was killed{f' ({signal[1].strip()})' if signal else ''}; if the memory is used up, "
            "lower workers= or batch_size=; the same command resumes what is saved"
        )
    if isinstance(error, RuntimeError) and (found := re.search(LOST_PEER, message)):
        return (
            f"another process of this run was lost ({found[0]}); the reason is in its own lines, and the same command "
            "resumes what is saved"
        )
    if isinstance(error, OSError) and error.errno in DISK:
        place = "" if error.filename is None else f"{error.filename}: "
        return f"{place}{(error.strerror or '').lower()}; {DISK[error.errno]}"
    return None


def _from_a_loader(error: BaseException) -> bool:
    """Whether a connection to a loader process broke while its batch was fetched."""
    return isinstance(error, OSError | EOFError) and any(
        frame.f_code.co_name == "_try_get_data" for frame, _ in traceback.walk_tb(error.__traceback__)
    )
