"""How work that can be shared out is done: one piece after the other, unless whoever starts it brings threads.

What runs in an executor computes the same bits whatever the executor is; it knows no thread and no lock.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol, TypeVar

T = TypeVar("T")
R = TypeVar("R")


class Map(Protocol):
    """``map``, of Python's own or of ``concurrent.futures``: results in order, and the first error where there is one."""

    def __call__(self, function: Callable[[T], R], items: Iterable[T], /) -> Iterator[R]: ...


@dataclass(frozen=True, slots=True)
class Executor:
    """``workers`` pieces are worth making, which ``map`` may compute side by side; ValueError below one."""

    workers: int
    map: Map

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise ValueError("an executor has at least one worker")


SERIAL = Executor(1, map)
"""One piece after the other, where it is asked for."""
