"""What benchmarks measure with: CPU time by name, the fastest of some calls, peak memory, and tables as documents have them."""

from __future__ import annotations

import resource
import statistics
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


class Clock:
    """CPU seconds by name; a name may be timed many times."""

    def __init__(self) -> None:
        self.spent: dict[str, list[float]] = {}

    def time(self, name: str, call: Callable[[], T]) -> T:
        """What ``call`` returns; how long it took is kept under ``name``."""
        start = time.process_time()
        result = call()
        self.spent.setdefault(name, []).append(time.process_time() - start)
        return result

    def median(self, *names: str) -> float:
        """Seconds: the sum of the medians of these names."""
        return sum(statistics.median(self.spent[name]) for name in names)

    def milliseconds(self, *names: str) -> float:
        """The same in milliseconds."""
        return 1e3 * self.median(*names)


def fastest(call: Callable[[], object], calls: int) -> float:
    """CPU seconds of the fastest of so many calls."""
    clock = Clock()
    for _ in range(calls):
        clock.time("call", call)
    return min(clock.spent["call"])


def peak_memory() -> int:
    """Bytes that this process has held at the most, with what is mapped from disk."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def heading(*columns: str) -> str:
    """A table's first two lines."""
    return f"{row(*columns)}\n|{'---|' * len(columns)}"


def row(*cells: object) -> str:
    """A table's line."""
    return f"| {' | '.join(map(str, cells))} |"
