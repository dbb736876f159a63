import subprocess
import sys

import pytest

ALLOCATE = """
import ctypes, os, resource
from pathlib import Path
from vse_gpo.cli.allocator import keep_freed_memory

keep_freed_memory()
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]

def use_and_free(size):
    block = libc.malloc(size)
    ctypes.memset(block, 1, size)
    libc.free(block)
"""
# how many new pages the second of two equal blocks takes, which follows the first one's return
SECOND_BLOCK = """
for _ in range(2):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    use_and_free(2**26)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
# the pages that a process has when it begins as a fork of one that has freed a block of 16,384
FORK = """
use_and_free(2**26)
pages = lambda: int(Path("/proc/self/statm").read_text().split()[1])
kept = pages()
if os.fork() == 0:
    print(kept - pages(), flush=True)
    os._exit(0)
os.wait()
"""

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only glibc's memory is kept")


def printed(code: str, **environment: str) -> int:
    run = subprocess.run(
        [sys.executable, "-c", ALLOCATE + code], env=environment, capture_output=True, text=True, check=True
    )
    return int(run.stdout)


def test_freed_memory_is_used_again_and_a_user_decides_otherwise():
    assert printed(SECOND_BLOCK) < 100
    assert printed(SECOND_BLOCK, MALLOC_MMAP_THRESHOLD_="65536") > 1_000


def test_a_forked_process_begins_without_it():
    assert printed(FORK) > 15_000
