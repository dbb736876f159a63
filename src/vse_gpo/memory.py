"""What becomes of the memory that tensors on a CPU give back."""

import ctypes
import os

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # glibc's malloc.h
LARGEST = 2**31 - 1  # bytes


def keep_freed_memory() -> None:
    """Have glibc keep what tensors give back for those that come next, where it would return it to the system.

    The system hands memory out page by page, zeroed, which takes a trunk's feature maps on a CPU longer than their
    convolutions. In exchange the process holds what it held at its peak. Variables MALLOC_… of a user's own are left
    to do what they say, and so is any other C library.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt") and not any(name.startswith("MALLOC_") for name in os.environ):
        libc.mallopt(MMAP_THRESHOLD, LARGEST)
        libc.mallopt(TRIM_THRESHOLD, LARGEST)
