"""What is freed below a block in use goes back to the kernel; threads share one heap, large blocks lie in none."""

from __future__ import annotations

import platform
import re
import subprocess
import sys

import pytest

GIVING = """
import ctypes, re
from monitor.daemon import memory

def resident_kib():
    return int(re.search(r"VmRSS:\\s+(\\d+)", open("/proc/self/status").read())[1])

libc = ctypes.CDLL(None)
libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
blocks = [libc.malloc(4096) for _ in range(20_000)]
for block in blocks:
    ctypes.memset(block, 1, 4096)
for block in blocks[:-1]:
    libc.free(block)
before = resident_kib()
done = memory.give_back()
print(done, before - resident_kib())
"""

SHARING = """
import ctypes, sys, threading
from monitor.daemon import memory

done = memory.keep_together() if sys.argv[1] == "kept" else None
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
libc.malloc.argtypes = [ctypes.c_size_t]
meeting = threading.Barrier(4)

def allocate():
    meeting.wait()
    libc.malloc(1000)
    libc.free(libc.malloc(8 << 20))  # from here on glibc would keep such a block in the heap
    libc.malloc(8 << 20)
    meeting.wait()

threads = [threading.Thread(target=allocate) for _ in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
libc.fdopen.restype = ctypes.c_void_p
out = ctypes.c_void_p(libc.fdopen(1, b"w"))
print(done, flush=True)
libc.malloc_info(0, out)
libc.fflush(out)
"""


def _shared(how: str) -> tuple[str, int, int]:
    """What `keep_together` said, how many heaps there are, and bytes in blocks of their own."""
    out = subprocess.run([sys.executable, "-c", SHARING, how], capture_output=True, text=True, check=True).stdout
    own = re.search(r'<total type="mmap" count="\d+" size="(\d+)"/>', out)
    return out.split()[0], out.count("<heap nr="), int(own[1]) if own else 0


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_threads_share_one_heap_and_large_blocks_lie_in_none():
    done, heaps, own_bytes = _shared("kept")
    assert (done, heaps) == ("True", 1)
    assert own_bytes >= 4 * (8 << 20)
    assert _shared("by itself")[1] > 1


def test_memory_below_a_block_in_use_goes_back():
    out = subprocess.run([sys.executable, "-c", GIVING], capture_output=True, text=True, check=True).stdout
    done, given_back_kib = out.split()
    if platform.libc_ver()[0] == "glibc":
        assert done == "True" and int(given_back_kib) > 50_000
    else:
        assert done == "False"
