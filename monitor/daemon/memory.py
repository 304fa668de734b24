"""Memory that the process has freed goes back to the kernel, and does not lie in the heap between what is in use."""

from __future__ import annotations

import ctypes


def give_back() -> bool:
    """Free pages go back, those in the middle of the heap too; False where the C library cannot (it is not glibc).

    By itself glibc gives back only the heap's end, above which one small block in use may stay for hours: what a
    process seems to take then swings by as much as it ever needed for a moment. Takes milliseconds, in any thread.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    return trim is not None and trim(0) >= 0
