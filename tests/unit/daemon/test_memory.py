"""What is freed below a block in use goes back to the kernel."""

from __future__ import annotations

import platform
import subprocess
import sys

PROGRAM = """
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


def test_memory_below_a_block_in_use_goes_back():
    out = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True).stdout
    done, given_back_kib = out.split()
    if platform.libc_ver()[0] == "glibc":
        assert done == "True" and int(given_back_kib) > 50_000
    else:
        assert done == "False"
