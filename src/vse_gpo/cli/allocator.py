"""What becomes of the memory that tensors on a CPU give back."""

import ctypes
import functools
import os
import sys

TRIM_THRESHOLD, MMAP_THRESHOLD, MMAP_MAX = -1, -3, -4  # glibc's malloc.h
LARGEST = 2**31 - 1  # bytes
OF_THE_USER = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_MMAP_MAX_", "GLIBC_TUNABLES")


@functools.cache
def keep_freed_memory() -> None:
    """Have glibc keep what tensors give back for those that come next, where it would return it to the system.

    The system hands memory out page by page, zeroed, which takes a trunk's feature maps on a CPU longer than their
    convolutions. In exchange the process holds what it held at its peak; a loader's process that is forked from it
    begins without. Where a user has set one of glibc's variables for it, that is left to do what it says, and so is any
    other C library.
    """
    if sys.platform != "linux" or any(name in os.environ for name in OF_THE_USER):
        return
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        if not libc.mallopt(MMAP_THRESHOLD, LARGEST):  # up to 2.34 it takes no more than 32 MiB
            libc.mallopt(MMAP_MAX, 0)  # does the same in a little more memory
        libc.mallopt(TRIM_THRESHOLD, -1)
        os.register_at_fork(before=lambda: libc.malloc_trim(0))  # both would hold the free pages
