"""Memory that the process has freed goes back to the kernel, and does not lie in the heap between what is in use."""

from __future__ import annotations

import ctypes

# Of glibc's malloc.h.
_M_MMAP_THRESHOLD = -3
_M_ARENA_MAX = -8
#: Larger blocks come from the kernel and go back to it at once: a few percent of what is done with them.
_LARGE_BYTES = 4 << 20


def keep_together() -> bool:
    """All threads that start from now on share one heap, without large blocks; False where the C library cannot.

    By itself glibc gives each of a dozen threads a heap of its own, and after the first large block keeps blocks of up
    to 32 MiB in them: each heap is touched in ever new places, for hours, though what is in use stays the same.
    """
    tune = getattr(ctypes.CDLL(None), "mallopt", None)
    return tune is not None and bool(tune(_M_ARENA_MAX, 1)) and bool(tune(_M_MMAP_THRESHOLD, _LARGE_BYTES))


def give_back() -> bool:
    """Free pages go back, those in the middle of the heap too; False where the C library cannot (it is not glibc).

    By itself glibc gives back only the heap's end, above which one small block in use may stay for hours: what a
    process seems to take then swings by as much as it ever needed for a moment. Takes milliseconds, in any thread.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    return trim is not None and trim(0) >= 0
