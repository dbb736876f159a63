import subprocess
import sys

import pytest

# how many new pages the second of two equal blocks takes, which follows the first one's return
SECOND_BLOCK = """
import ctypes, resource
from vse_gpo.memory import keep_freed_memory

keep_freed_memory()
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
for _ in range(2):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    block = libc.malloc(2**26)
    ctypes.memset(block, 1, 2**26)
    libc.free(block)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def new_pages(**environment: str) -> int:
    run = subprocess.run(
        [sys.executable, "-c", SECOND_BLOCK], env=environment, capture_output=True, text=True, check=True
    )
    return int(run.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="only glibc's memory is kept")
def test_freed_memory_is_used_again_and_a_user_decides_otherwise():
    assert new_pages() < 100
    assert new_pages(MALLOC_MMAP_THRESHOLD_="65536") > 1_000
