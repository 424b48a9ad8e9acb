"""Memory of a compute server's process: what was given back by an array is kept for the next one.

Layers of a query make and drop arrays of some hundred kilobytes by the thousand. glibc maps such blocks anew each time
and gives them back, so that the kernel clears the same pages over and over: a tenth of a logistic regression's time.
"""

from __future__ import annotations

import ctypes

TRIM_THRESHOLD, TOP_PAD, MMAP_THRESHOLD = -1, -2, -3
"""Parameters of mallopt(3)."""
KEPT = 1 << 26


def keep_freed_memory(library: ctypes.CDLL) -> bool:
    """Ask the C library to keep up to 64 MiB at the top of the heap, and to take arrays from it; whether it can.

    Other C libraries than glibc have no such parameters; nothing else depends on it.
    """
    try:
        mallopt = library.mallopt
    except AttributeError:
        return False
    return all(mallopt(parameter, KEPT) == 1 for parameter in (TRIM_THRESHOLD, TOP_PAD, MMAP_THRESHOLD))
