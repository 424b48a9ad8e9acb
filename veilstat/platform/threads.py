"""Threads for work that runs without the interpreter's lock: ciphers over long buffers, numpy's loops."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from veilstat.arithmetic.executor import SERIAL, Executor

T = TypeVar("T")
R = TypeVar("R")
MOST = 8
"""By default: more cores than that wait for the memory that they share."""


def cores() -> int:
    """How many of the machine's cores this process may use, as far as the system says, at most ``MOST``."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(usable, MOST)


def executor_of(threads: int) -> Executor:
    """So many threads for each piece of work that is shared out, which end with it, also when it fails; ValueError below one."""
    if threads == 1:
        return SERIAL

    def in_threads(function: Callable[[T], R], items: Iterable[T], /) -> Iterator[R]:
        with ThreadPoolExecutor(threads) as pool:
            return iter(list(pool.map(function, items)))

    return Executor(threads, in_threads)
