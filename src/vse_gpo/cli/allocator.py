"""Keep the memory that tensors on a CPU free."""

import ctypes
import functools
import os
import sys

TRIM_THRESHOLD, MMAP_THRESHOLD, MMAP_MAX = -1, -3, -4  # glibc's malloc.h
LARGEST = 2**31 - 1  # bytes
OF_THE_USER = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_MMAP_MAX_", "GLIBC_TUNABLES")


@functools.cache
def keep_freed_memory() -> None:
    """Make glibc keep the memory that tensors free for later tensors, instead of returning it to the system.

    The system provides memory page by page, zeroed, which for a trunk's feature maps on a CPU takes longer than their
    convolutions. In exchange, the process keeps the memory of its peak; a loader process that is forked from it starts
    without it. If the user has set one of glibc's variables for this, or with any other C library, nothing changes.
    """
    if sys.platform != "linux" or any(name in os.environ for name in OF_THE_USER):
        return
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        if not libc.mallopt(MMAP_THRESHOLD, LARGEST):  # up to 2.34 it takes no more than 32 MiB
            libc.mallopt(MMAP_MAX, 0)  # has the same effect with a little more memory
        libc.mallopt(TRIM_THRESHOLD, -1)
        os.register_at_fork(before=lambda: libc.malloc_trim(0))  # else both processes hold the free pages
